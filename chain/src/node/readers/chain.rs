//! The chain itself, its fees and its randomness.

use num_bigint::BigInt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{List, key, read};
use crate::gas;
use crate::message::{Message, MessageJson};
use crate::node::{BaseFees, Error, NetworkParams, NodeVersion, ReadRpc, Reply, TipSet};
use crate::randomness::Tag;
use crate::transport::Token;
use crate::types::{AttoFil, Epoch, TipSetKey, json as wire};

/// The chain itself.
pub trait ChainReader: ReadRpc {
    /// `ChainHead`: the heaviest tipset.
    fn chain_head(&self) -> Reply<'_, TipSet> {
        read(self, "ChainHead", vec![])
    }

    /// `ChainGetTipSetByHeight`: the tipset at that epoch, or the one before when the epoch has none.
    fn tipset_by_height(&self, epoch: Epoch, tipset: &TipSetKey) -> Reply<'_, TipSet> {
        read(
            self,
            "ChainGetTipSetByHeight",
            vec![json!(epoch), key(tipset)],
        )
    }

    /// `ChainGetGenesis`.
    fn genesis(&self) -> Reply<'_, TipSet> {
        read(self, "ChainGetGenesis", vec![])
    }

    /// `StateNetworkName`; compare with [`crate::types::Network::check_name`].
    fn network_name(&self) -> Reply<'_, String> {
        read(self, "StateNetworkName", vec![])
    }

    /// `StateNetworkVersion`, such as 28.
    fn network_version(&self, tipset: &TipSetKey) -> Reply<'_, u32> {
        read(self, "StateNetworkVersion", vec![key(tipset)])
    }

    /// `StateGetNetworkParams`.
    fn network_params(&self) -> Reply<'_, NetworkParams> {
        read(self, "StateGetNetworkParams", vec![])
    }

    /// `Version`.
    fn version(&self) -> Reply<'_, NodeVersion> {
        read(self, "Version", vec![])
    }

    /// `AuthVerify`: the permissions of a token, such as `["read", "write"]`.
    fn auth_verify(&self, token: &Token) -> Reply<'_, Vec<String>> {
        read(self, "AuthVerify", vec![json!(token.expose())])
    }

    /// `ChainGetMessagesInTipset`: the messages in the blocks of a tipset, each once.
    fn messages_in_tipset(&self, tipset: &TipSetKey) -> Reply<'_, Vec<Message>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            message: MessageJson,
        }
        let entries = read::<List<Entry>, _>(self, "ChainGetMessagesInTipset", vec![key(tipset)]);
        Box::pin(async move {
            let messages = entries
                .await?
                .0
                .into_iter()
                .map(|entry| entry.message.try_into());
            Ok(messages.collect::<Result<_, _>>()?)
        })
    }

    /// The base fee that `head`'s messages pay, and the one of the next block.
    ///
    /// The next one is the node's own (`EthBaseFee`) where it offers that (lotus only with its Ethereum module switched on),
    /// and else computed from the messages of the head by the rule of FIP-0115, which is the network's since version 28.
    fn base_fees<'a>(&'a self, head: &'a TipSet) -> Reply<'a, BaseFees> {
        let from_node = read::<String, _>(self, "EthBaseFee", vec![]);
        Box::pin(async move {
            let current = head.base_fee();
            let next = match from_node.await {
                Ok(hex) => hex_amount("EthBaseFee", &hex)?,
                Err(Error::NoSuchMethod { .. } | Error::Refused { .. }) => {
                    let messages = self.messages_in_tipset(&head.key).await?;
                    gas::next_base_fee_after(&current, messages.iter().map(gas::Bid::of))
                }
                Err(error) => return Err(error),
            };
            Ok(BaseFees { current, next })
        })
    }
}

impl<R: ReadRpc + ?Sized> ChainReader for R {}

/// Reads `0x1f`, as Ethereum's methods write numbers.
fn hex_amount(method: &'static str, text: &str) -> Result<AttoFil, Error> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() <= 64);
    digits
        .and_then(|digits| BigInt::parse_bytes(digits.as_bytes(), 16))
        .map(AttoFil::from_atto)
        .ok_or_else(|| Error::Unreadable {
            method,
            reason: "not a hexadecimal number".to_owned(),
            body: crate::transport::quote(text.as_bytes()),
        })
}

/// Randomness of the chain: 32 bytes.
pub trait RandomnessReader: ReadRpc {
    /// `StateGetRandomnessFromTickets`.
    fn randomness_from_tickets(
        &self,
        tag: Tag,
        epoch: Epoch,
        entropy: &[u8],
        tipset: &TipSetKey,
    ) -> Reply<'_, [u8; 32]> {
        let params = vec![
            json!(tag.number()),
            json!(epoch),
            json!(wire::to_base64(entropy)),
            key(tipset),
        ];
        randomness(self, "StateGetRandomnessFromTickets", params)
    }

    /// `StateGetRandomnessFromBeacon`.
    fn randomness_from_beacon(
        &self,
        tag: Tag,
        epoch: Epoch,
        entropy: &[u8],
        tipset: &TipSetKey,
    ) -> Reply<'_, [u8; 32]> {
        let params = vec![
            json!(tag.number()),
            json!(epoch),
            json!(wire::to_base64(entropy)),
            key(tipset),
        ];
        randomness(self, "StateGetRandomnessFromBeacon", params)
    }
}

impl<R: ReadRpc + ?Sized> RandomnessReader for R {}

fn randomness<'a, R: ReadRpc + ?Sized>(
    rpc: &'a R,
    method: &'static str,
    params: Vec<Value>,
) -> Reply<'a, [u8; 32]> {
    #[derive(Deserialize)]
    struct Bytes(#[serde(deserialize_with = "wire::bytes::deserialize")] Vec<u8>);

    let answer: Reply<'a, Bytes> = read(rpc, method, params);
    Box::pin(async move {
        let bytes = answer.await?.0;
        let length = bytes.len();
        bytes.try_into().map_err(|_wrong_length| Error::Unreadable {
            method,
            reason: format!("{length} bytes instead of 32"),
            body: String::new(),
        })
    })
}
