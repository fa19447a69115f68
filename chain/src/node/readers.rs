//! The methods that change nothing, by concern.

use fvm_ipld_bitfield::BitField;
use fvm_shared::address::Address;
use num_bigint::BigInt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Actor, BaseFees, CallResult, Deadline, Error, MessageLookup, MinerInfo, MinerPower,
    NetworkParams, NodeVersion, Partition, PreCommitInfo, PreCommitOnChainInfo, ReadRpc, Reply,
    SectorExpiration, SectorLocation, SectorOnChainInfo, TipSet, decode,
};
use crate::gas::{self, FeeSpec};
use crate::message::{Message, MessageJson, SignedMessage, SignedMessageJson};
use crate::proving::DeadlineInfo;
use crate::randomness::Tag;
use crate::transport::Token;
use crate::types::bitfield::{self, JsonBits};
use crate::types::{
    ActorId, AttoFil, Cid, Epoch, SectorNumber, SectorSize, TipSetKey, json as wire, parse_address,
};

/// Calls a method and reads its answer.
fn read<'a, T, R>(rpc: &'a R, method: &'static str, params: Vec<Value>) -> Reply<'a, T>
where
    T: serde::de::DeserializeOwned + 'a,
    R: ReadRpc + ?Sized,
{
    Box::pin(async move {
        let raw = rpc.read_raw(method, params).await?;
        decode(method, &raw)
    })
}

fn link(cid: &Cid) -> Value {
    json!({ "/": cid.to_string() })
}

fn key(tipset: &TipSetKey) -> Value {
    Value::Array(tipset.0.iter().map(link).collect())
}

/// A list that Go may write as `null`.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct List<T>(#[serde(deserialize_with = "wire::list::deserialize")] Vec<T>);

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
    /// The next one is the node's own (`EthBaseFee`) where it offers that, and else computed from the messages of the
    /// head by the rule of FIP-0115, which is the network's since version 28.
    fn base_fees<'a>(&'a self, head: &'a TipSet) -> Reply<'a, BaseFees> {
        let from_node = read::<String, _>(self, "EthBaseFee", vec![]);
        Box::pin(async move {
            let current = head.base_fee();
            let next = match from_node.await {
                Ok(hex) => hex_amount("EthBaseFee", &hex)?,
                Err(Error::NoSuchMethod { .. }) => {
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

/// A miner actor as a whole. "At a tipset" means: before that tipset's own messages.
pub trait MinerReader: ReadRpc {
    /// `StateMinerInfo`.
    fn miner_info(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, MinerInfo> {
        read(
            self,
            "StateMinerInfo",
            vec![json!(miner.format(self.network())), key(tipset)],
        )
    }

    /// `StateMinerPower`.
    fn miner_power(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, MinerPower> {
        read(
            self,
            "StateMinerPower",
            vec![json!(miner.format(self.network())), key(tipset)],
        )
    }

    /// `StateMinerAvailableBalance`: what is neither locked nor owed.
    fn miner_available_balance(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, AttoFil> {
        let miner = json!(miner.format(self.network()));
        read(self, "StateMinerAvailableBalance", vec![miner, key(tipset)])
    }

    /// `StateMinerProvingDeadline`: the current deadline, or the next one when the current has elapsed.
    fn proving_deadline(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, DeadlineInfo> {
        let miner = json!(miner.format(self.network()));
        read(self, "StateMinerProvingDeadline", vec![miner, key(tipset)])
    }

    /// `StateMinerDeadlines`: all deadlines, by index.
    fn deadlines(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, Vec<Deadline>> {
        let miner = json!(miner.format(self.network()));
        unlist(read(self, "StateMinerDeadlines", vec![miner, key(tipset)]))
    }

    /// `StateMinerPartitions`: the partitions of one deadline, by index.
    fn partitions(
        &self,
        miner: ActorId,
        deadline: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, Vec<Partition>> {
        let miner = json!(miner.format(self.network()));
        unlist(read(
            self,
            "StateMinerPartitions",
            vec![miner, json!(deadline), key(tipset)],
        ))
    }

    /// `StateMinerSectors`: these sectors, or all of them.
    fn sectors(
        &self,
        miner: ActorId,
        filter: Option<&BitField>,
        tipset: &TipSetKey,
    ) -> Reply<'_, Vec<SectorOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        let filter = json!(filter.map(bitfield::to_runs));
        unlist(read(
            self,
            "StateMinerSectors",
            vec![miner, filter, key(tipset)],
        ))
    }

    /// `StateMinerFaults`.
    fn faults(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerFaults", vec![miner, key(tipset)]))
    }

    /// `StateMinerRecoveries`.
    fn recoveries(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerRecoveries", vec![miner, key(tipset)]))
    }

    /// `StateMinerAllocated`: the sector numbers that can never be used again. Whole ranges may be marked.
    fn allocated(&self, miner: ActorId, tipset: &TipSetKey) -> Reply<'_, BitField> {
        let miner = json!(miner.format(self.network()));
        bits(read(self, "StateMinerAllocated", vec![miner, key(tipset)]))
    }

    /// `StateMinerSectorAllocated`: whether this number can never be used again.
    fn sector_allocated(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, bool> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateMinerSectorAllocated",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateMinerPreCommitDepositForPower`: the deposit of a pre-commit, with the node's reserve of 10 %.
    fn precommit_deposit(
        &self,
        miner: ActorId,
        info: &PreCommitInfo,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let miner = json!(miner.format(self.network()));
        let params = vec![miner, json!(info), key(tipset)];
        read(self, "StateMinerPreCommitDepositForPower", params)
    }

    /// `StateMinerInitialPledgeForSector`: the pledge of a sector, with the node's reserve of 10 %.
    fn initial_pledge(
        &self,
        duration_epochs: i64,
        size: SectorSize,
        verified_bytes: u64,
        tipset: &TipSetKey,
    ) -> Reply<'_, AttoFil> {
        let params = vec![
            json!(duration_epochs),
            json!(size.bytes()),
            json!(verified_bytes),
            key(tipset),
        ];
        read(self, "StateMinerInitialPledgeForSector", params)
    }
}

impl<R: ReadRpc + ?Sized> MinerReader for R {}

fn unlist<'a, T: 'a + Send>(list: Reply<'a, List<T>>) -> Reply<'a, Vec<T>> {
    Box::pin(async move { Ok(list.await?.0) })
}

fn bits(bits: Reply<'_, JsonBits>) -> Reply<'_, BitField> {
    Box::pin(async move { Ok(bits.await?.0) })
}

/// One sector. "At a tipset" means: before that tipset's own messages.
pub trait SectorReader: ReadRpc {
    /// `StateSectorGetInfo`: none when it is not proven, or terminated.
    fn sector_info(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, Option<SectorOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorGetInfo",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateSectorPreCommitInfo`: none after the proof, after expiry, or when there never was a pre-commit.
    fn precommit_info(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, Option<PreCommitOnChainInfo>> {
        let miner = json!(miner.format(self.network()));
        let answer: Reply<'_, Option<PreCommitOnChainInfo>> = read(
            self,
            "StateSectorPreCommitInfo",
            vec![miner, json!(sector), key(tipset)],
        );
        Box::pin(async move {
            match answer.await {
                // Forest says with an error what lotus says with null.
                Err(Error::Refused { message, .. })
                    if message
                        .to_ascii_lowercase()
                        .contains("precommit info does not exist") =>
                {
                    Ok(None)
                }
                other => other,
            }
        })
    }

    /// `StateSectorPartition`: where it is proven.
    fn sector_partition(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, SectorLocation> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorPartition",
            vec![miner, json!(sector), key(tipset)],
        )
    }

    /// `StateSectorExpiration`: when it ends.
    fn sector_expiration(
        &self,
        miner: ActorId,
        sector: SectorNumber,
        tipset: &TipSetKey,
    ) -> Reply<'_, SectorExpiration> {
        let miner = json!(miner.format(self.network()));
        read(
            self,
            "StateSectorExpiration",
            vec![miner, json!(sector), key(tipset)],
        )
    }
}

impl<R: ReadRpc + ?Sized> SectorReader for R {}

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

    /// `MpoolPending`: the whole pool, several MB on mainnet; see [`super::answers::pending_of`].
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
