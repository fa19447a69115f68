//! What messages would cost, and what became of them.

use fvm_shared::address::Address;
use serde_json::json;

use super::{List, key, link, read};
use crate::gas::FeeSpec;
use crate::message::{Message, MessageJson, SignedMessage, SignedMessageJson};
use crate::node::{CallResult, MessageLookup, ReadRpc, Reply};
use crate::types::{AttoFil, Cid, TipSetKey};

/// Messages: what they would cost, and what became of them.
pub trait MessageReader: ReadRpc {
    /// `StateSearchMsg`: none while it has not landed.
    ///
    /// `lookback_epochs` −1 searches the whole chain. With `allow_replaced` the answer may be about the message that
    /// took its nonce.
    fn search_message(
        &self,
        from: &TipSetKey,
        message: &Cid,
        lookback_epochs: i64,
        allow_replaced: bool,
    ) -> Reply<'_, Option<MessageLookup>> {
        let params = vec![
            key(from),
            link(message),
            json!(lookback_epochs),
            json!(allow_replaced),
        ];
        read(self, "StateSearchMsg", params)
    }

    /// `StateCall`: what would come of a message; nothing is signed or sent.
    fn call(&self, message: &Message, tipset: &TipSetKey) -> Reply<'_, CallResult> {
        let message = json!(MessageJson::new(message, self.network()));
        read(self, "StateCall", vec![message, key(tipset)])
    }

    /// `GasEstimateMessageGas`: the message with limit, fee cap and premium set where they are zero.
    fn estimate_message_gas(
        &self,
        message: &Message,
        spec: &FeeSpec,
        tipset: &TipSetKey,
    ) -> Reply<'_, Message> {
        let message = json!(MessageJson::new(message, self.network()));
        let answer: Reply<'_, MessageJson> = read(
            self,
            "GasEstimateMessageGas",
            vec![message, spec.to_json(), key(tipset)],
        );
        Box::pin(async move { Ok(answer.await?.try_into()?) })
    }

    /// `GasEstimateGasPremium`: a premium to be included within so many blocks.
    fn estimate_premium(
        &self,
        blocks: u64,
        sender: &Address,
        gas_limit: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let sender = json!(self.network().format(sender));
        let params = vec![json!(blocks), sender, json!(gas_limit), key(tipset)];
        read(self, "GasEstimateGasPremium", params)
    }

    /// `GasEstimateFeeCap`: a fee cap that holds while the base fee grows for so many blocks.
    fn estimate_fee_cap(
        &self,
        message: &Message,
        max_blocks: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let message = json!(MessageJson::new(message, self.network()));
        read(
            self,
            "GasEstimateFeeCap",
            vec![message, json!(max_blocks), key(tipset)],
        )
    }

    /// `MpoolGetNonce`: the next nonce by the node's pool. Not atomic: take the larger of it and our own.
    fn mpool_nonce(&self, sender: &Address) -> Reply<'_, u64> {
        read(
            self,
            "MpoolGetNonce",
            vec![json!(self.network().format(sender))],
        )
    }

    /// `MpoolPending`: the whole pool, several MB on mainnet; see [`crate::node::pending_of`].
    fn mpool_pending(&self, tipset: &TipSetKey) -> Reply<'_, Vec<SignedMessage>> {
        let pool: Reply<'_, List<SignedMessageJson>> =
            read(self, "MpoolPending", vec![key(tipset)]);
        Box::pin(async move {
            // Messages of kinds that we do not send (delegated signatures) are not ours: left out.
            Ok(pool
                .await?
                .0
                .into_iter()
                .filter_map(|json| json.try_into().ok())
                .collect())
        })
    }
}

impl<R: ReadRpc + ?Sized> MessageReader for R {}
