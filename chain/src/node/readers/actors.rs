//! Actors and accounts.

use fvm_shared::address::Address;
use serde_json::json;

use super::{key, read};
use crate::node::{Actor, ReadRpc, Reply};
use crate::types::{AttoFil, TipSetKey, parse_address};

/// Actors and accounts.
pub trait ActorReader: ReadRpc {
    /// `StateGetActor`. Its nonce is the first that has not landed.
    fn actor(&self, address: &Address, tipset: &TipSetKey) -> Reply<'_, Actor> {
        read(
            self,
            "StateGetActor",
            vec![json!(self.network().format(address)), key(tipset)],
        )
    }

    /// `StateAccountKey`: the key address behind an id address.
    fn account_key(&self, address: &Address, tipset: &TipSetKey) -> Reply<'_, Address> {
        let params = vec![json!(self.network().format(address)), key(tipset)];
        address_answer(read(self, "StateAccountKey", params))
    }

    /// `StateLookupID`: the id address behind a key address.
    fn lookup_id(&self, address: &Address, tipset: &TipSetKey) -> Reply<'_, Address> {
        let params = vec![json!(self.network().format(address)), key(tipset)];
        address_answer(read(self, "StateLookupID", params))
    }

    /// `WalletBalance`: zero for an address that is not on chain.
    fn balance(&self, address: &Address) -> Reply<'_, AttoFil> {
        read(
            self,
            "WalletBalance",
            vec![json!(self.network().format(address))],
        )
    }
}

impl<R: ReadRpc + ?Sized> ActorReader for R {}

fn address_answer(text: Reply<'_, String>) -> Reply<'_, Address> {
    Box::pin(async move { Ok(parse_address(&text.await?)?) })
}
