//! The methods that have effects, or that need a key. Nothing here is tried again.

use fvm_shared::address::Address;
use serde_json::{Value, json};

use super::{Error, Reply, WriteRpc, decode};
use crate::message::{Message, MessageJson, SignedMessage, SignedMessageJson};
use crate::types::{Cid, json as wire};
use crate::wallet;

/// Sends signed messages.
pub trait Pusher: WriteRpc {
    /// `MpoolPush`: hands a signed message to the node. The bytes must be stored before.
    ///
    /// An error proves nothing: look the CID up, and push the same bytes again.
    /// "Already there" is success.
    fn push<'a>(&'a self, signed: &'a SignedMessage) -> Reply<'a, Cid> {
        let json = json!(SignedMessageJson::new(signed, self.write_network()));
        let answer = self.write_raw("MpoolPush", vec![json]);
        Box::pin(async move {
            match answer.await {
                Ok(raw) => Ok(decode::<wire::Link>("MpoolPush", &raw)?.parse()?),
                Err(Error::Pool {
                    refusal: super::error::PoolRefusal::AlreadyThere,
                    ..
                }) => Ok(signed.cid()),
                Err(error) => Err(error),
            }
        })
    }
}

impl<W: WriteRpc + ?Sized> Pusher for W {}

/// The wallet of the node. Needs a token with the permissions write and sign.
pub trait NodeSigner: WriteRpc {
    /// `WalletHas`: whether the node can sign for this key address.
    fn wallet_has(&self, address: &Address) -> Reply<'_, bool> {
        let answer = self.write_raw(
            "WalletHas",
            vec![json!(self.write_network().format(address))],
        );
        Box::pin(async move { decode("WalletHas", &answer.await?) })
    }

    /// `WalletSignMessage`. The answer is checked: it is the message that was asked for, and the signature fits.
    fn wallet_sign_message<'a>(&'a self, message: &'a Message) -> Reply<'a, SignedMessage> {
        const METHOD: &str = "WalletSignMessage";
        let sender: Value = json!(self.write_network().format(&message.from));
        let json = json!(MessageJson::new(message, self.write_network()));
        let answer = self.write_raw(METHOD, vec![sender, json]);
        Box::pin(async move {
            let signed: SignedMessage =
                decode::<SignedMessageJson>(METHOD, &answer.await?)?.try_into()?;
            let unreadable = |reason: String| Error::Unreadable {
                method: METHOD,
                reason,
                body: String::new(),
            };
            if signed.message != *message {
                return Err(unreadable("the node signed another message".to_owned()));
            }
            wallet::verify_message(&signed).map_err(|error| unreadable(error.to_string()))?;
            Ok(signed)
        })
    }
}

impl<W: WriteRpc + ?Sized> NodeSigner for W {}
