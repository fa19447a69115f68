//! Signs messages and pushes them. Exactly once: the signed bytes are stored before anybody sees them, and only
//! what is stored is pushed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::gas::{self, FeeSpec};
use filstar_chain::message::{Message, SignedMessage};
use filstar_chain::node::error::PoolRefusal;
use filstar_chain::node::{
    ActorReader, ChainReader, Error as NodeError, MessageReader, Node, NodeSigner, Pusher, TipSet,
};
use filstar_chain::types::{AttoFil, parse_address};
use filstar_chain::wallet;
use filstar_core::plan::message::{needs_node, waits_for};
use filstar_core::plan::names;
use filstar_core::world::Id;
use filstar_core::world::facts::network;
use filstar_crds::{
    ChainMessage, ChainMessageSpec, ChainMessageStatus, MessageKind, MessageState, Miner, Sector,
    SignedVersion, SignerType, conditions, set_condition,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::object::readable;
use super::{Applied, Applier, Error, Scene};
use crate::watch::{Change, Guarded, applied};

/// A rise of the base fee is allowed for at most so many epochs: as long as a window of proofs is open.
const RISE_EPOCHS: u64 = 60;

/// What a plan says of a signature.
pub(super) struct Terms {
    /// The smallest nonce.
    pub(super) min_nonce: u64,
    /// What may be reserved for a higher base fee.
    pub(super) spendable: Option<AttoFil>,
}

/// Between two looks whether a write was made.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Applier {
    pub(super) async fn sign_message(
        &self,
        id: &Id,
        miner: &Id,
        terms: &Terms,
        version: &str,
        scene: &Scene,
    ) -> Applied {
        let (Some(owner), Some(message)) = (&scene.miner, &scene.message) else {
            return Applied::of(Err(Error::Gone));
        };
        if message.resource_version().as_deref() != Some(version) {
            return Applied::of(Err(Error::Conflict));
        }
        match self.try_sign(id, miner, terms, owner, message).await {
            Ok(change) => Applied::of(Ok(change)),
            Err(error) => self.report(id, message, version, error).await,
        }
    }

    async fn try_sign(
        &self,
        id: &Id,
        miner: &Id,
        terms: &Terms,
        owner: &Miner,
        object: &ChainMessage,
    ) -> Result<Change, Error> {
        let node = self.node(miner)?;
        let mut message = unsigned(&object.spec)?;
        let max_fee = amount("maxFee", &object.spec.max_fee)?;
        let genesis = node.genesis().await.map_err(|e| self.count_rpc(e))?;
        // From here to the end of the store nobody else signs for this sender on this chain.
        let mut floor = self.nonces.turn(&genesis.key, &object.spec.from).await;
        let head = node.chain_head().await.map_err(|e| self.count_rpc(e))?;
        message.nonce = self
            .next_nonce(&node, &head, &message)
            .await?
            .max(terms.min_nonce)
            .max(*floor);
        let mut message = self.priced(&node, &head, message, &max_fee).await?;
        if let Some(spendable) = &terms.spendable {
            let left = object.spec.deadline_epoch.unwrap_or(0) - head.height.0;
            let left = u64::try_from(left).unwrap_or(0).min(RISE_EPOCHS);
            let most = spendable.clone().min(max_fee);
            gas::raise_cap(&mut message, &head.base_fee(), left, &most);
        }
        self.sectors_wait_for(id, object).await?;
        let signed = self.signed(&node, owner, &id.namespace, message).await?;
        let nonce = signed.message.nonce;
        let status = signed_status(object, &signed, Timestamp::now());
        let version = object.resource_version().unwrap_or_default();
        let stored = match self.patch_message(id, &status, &version).await {
            Err(error) if error.is_unclear() => self.settle(id, &version, &status).await?,
            stored => stored?,
        };
        *floor = nonce.saturating_add(1);
        Ok(stored)
    }

    /// A signature cannot be taken back: just before it, the sectors that it is for are looked at once more.
    async fn sectors_wait_for(&self, id: &Id, message: &ChainMessage) -> Result<(), Error> {
        if !matches!(
            message.spec.kind,
            MessageKind::PreCommit | MessageKind::ProveCommit
        ) {
            return Ok(());
        }
        for number in message.spec.sectors.iter().map(|n| n.unsigned_abs()) {
            let name = names::sector(&message.spec.to, number);
            let live = self.live::<Sector>(&Id::new(&id.namespace, name)).await;
            let sector = match live {
                Err(Error::Gone) => return Err(Error::NoLongerDue("its sector is gone")),
                found => readable(found?)?,
            };
            if sector.metadata.deletion_timestamp.is_some() || !waits_for(&sector, message) {
                return Err(Error::NoLongerDue("its sector does not wait for it"));
            }
            if let Some(node) = needs_node(&sector, message)
                && !self.is_there(node).await?
            {
                return Err(Error::NoLongerDue(
                    "the node with its sector's files is gone",
                ));
            }
        }
        Ok(())
    }

    /// The first nonce that neither the chain nor the node's pool has from the sender.
    async fn next_nonce(
        &self,
        node: &Node,
        head: &TipSet,
        message: &Message,
    ) -> Result<u64, Error> {
        let actor = node
            .actor(&message.from, &head.key)
            .await
            .map_err(|e| self.count_rpc(e))?;
        let pool = node
            .mpool_nonce(&message.from)
            .await
            .map_err(|e| self.count_rpc(e))?;
        Ok(actor.nonce.max(pool))
    }

    /// The message with gas limit, fee cap and premium, within the bound.
    async fn priced(
        &self,
        node: &Node,
        head: &TipSet,
        message: Message,
        max_fee: &AttoFil,
    ) -> Result<Message, Error> {
        let spec = FeeSpec {
            max_fee: Some(max_fee.clone()),
            maximize_fee_cap: false,
        };
        let estimate = node.estimate_message_gas(&message, &spec, &head.key).await;
        let estimate = estimate.map_err(|e| self.count_rpc(e))?;
        let mut priced = message;
        gas::Fees::of(&estimate).set(&mut priced);
        gas::cap_fees(&mut priced, max_fee);
        let base_fee = head.base_fee();
        if priced.gas_fee_cap < base_fee {
            let needed = &base_fee * priced.gas_limit;
            return Err(Error::FeeBound(format!(
                "the bound of {max_fee} is below the {needed} that {} gas cost at the base fee of {base_fee} per gas; \
                 it is signed once the base fee allows it, or raise maxFee in the GasPolicy for messages to come",
                priced.gas_limit
            )));
        }
        Ok(priced)
    }

    async fn signed(
        &self,
        node: &Node,
        owner: &Miner,
        namespace: &str,
        message: Message,
    ) -> Result<SignedMessage, Error> {
        self.may_write()?;
        let signed = match owner.spec.signer.type_ {
            SignerType::Node => node
                .wallet_sign_message(&message)
                .await
                .map_err(|e| self.count_rpc(e))?,
            SignerType::Secret => {
                let secret = owner.spec.signer.secret_ref.as_ref();
                let secret =
                    secret.ok_or_else(|| Error::Invalid("spec.signer has no secretRef".into()))?;
                let id = Id::new(namespace, &secret.name);
                let network = network(owner.spec.network);
                let signer = self.secrets.signer(&id, &message.from, network).await?;
                signer.sign_message(message)?
            }
        };
        wallet::verify_message(&signed)?;
        Ok(signed)
    }

    /// Finds out whether a store whose answer was lost was made. Ends only when that is known, since a nonce must
    /// neither be given twice nor left out.
    async fn settle(
        &self,
        id: &Id,
        version: &str,
        status: &ChainMessageStatus,
    ) -> Result<Change, Error> {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            match self.live::<ChainMessage>(id).await {
                Ok(live) if live.resource_version().as_deref() == Some(version) => {
                    // It was not made; it may still be on its way, so it is made again: the version decides.
                    match self.patch_message(id, status, version).await {
                        Err(error) if error.is_unclear() || matches!(error, Error::Conflict) => {}
                        stored => return stored,
                    }
                }
                Ok(live) => {
                    let whole = readable(live.clone())?;
                    let known = whole.status.unwrap_or_default().versions;
                    let ours = status.versions.iter().all(|v| known.contains(v));
                    return if ours {
                        Ok(applied(live))
                    } else {
                        Err(Error::Conflict)
                    };
                }
                Err(Error::Gone) => return Err(Error::Gone),
                Err(error) => {
                    tracing::warn!(message = %id, %error, "not known yet whether it is stored");
                }
            }
        }
    }

    pub(super) async fn push_message(
        &self,
        id: &Id,
        miner: &Id,
        status: &ChainMessageStatus,
        version: &str,
    ) -> Applied {
        let live = match self.live::<ChainMessage>(id).await {
            Ok(live) => live,
            Err(error) => return Applied::of(Err(error)),
        };
        let message = match due(live, version) {
            Ok(message) => message,
            Err(error) => return Applied::of(Err(error)),
        };
        match self.try_push(miner, &message).await {
            Ok(()) => Applied::of(self.patch_message(id, status, version).await),
            Err(error) => self.report(id, &message, version, error).await,
        }
    }

    async fn try_push(&self, miner: &Id, message: &ChainMessage) -> Result<(), Error> {
        let node = self.node(miner)?;
        let signed = newest(message)?;
        self.may_write()?;
        match node.push(&signed).await {
            Ok(cid) if cid == signed.cid() => Ok(()),
            Ok(cid) => Err(Error::Invalid(format!(
                "the node calls the message {cid}, we {}",
                signed.cid()
            ))),
            // Its nonce has landed: most likely with this very message, and the next poll finds it.
            Err(NodeError::Pool {
                refusal: PoolRefusal::NonceTooLow,
                ..
            }) => Ok(()),
            Err(error) => Err(self.count_rpc(error)),
        }
    }

    /// Writes onto the message why it goes no further, when that is new and a person might want to know it.
    async fn report(
        &self,
        id: &Id,
        message: &ChainMessage,
        version: &str,
        error: Error,
    ) -> Applied {
        let mut changes = Vec::new();
        if let Some(reason) = reason(&error) {
            let mut status = message.status.clone().unwrap_or_default();
            let text: String = error.to_string().chars().take(2000).collect();
            let now = Timestamp::now();
            let news = set_condition(
                &mut status.conditions,
                conditions::READY,
                false,
                reason,
                &text,
                message.metadata.generation,
                now,
            );
            if news {
                match self.patch_message(id, &status, version).await {
                    Ok(change) => changes.push(change),
                    Err(other) => {
                        tracing::debug!(message = %id, error = %other, "condition not written");
                    }
                }
            }
        }
        Applied {
            changes,
            result: Err(error),
        }
    }
}

/// Reason of the condition for an error; none when it is none of a person's business.
fn reason(error: &Error) -> Option<&'static str> {
    match error {
        Error::Chain(NodeError::Execution { .. }) => Some("WouldFail"),
        Error::Chain(NodeError::OutOfGas { .. }) => Some("OutOfGas"),
        Error::Chain(NodeError::ActorNotFound { .. }) => Some("SenderNotFound"),
        Error::Chain(NodeError::MissingPermission { .. }) => Some("MissingPermission"),
        Error::Chain(NodeError::Pool { refusal, .. }) => match refusal {
            PoolRefusal::AlreadyThere | PoolRefusal::NonceTooLow => None,
            PoolRefusal::NotEnoughFunds => Some("NotEnoughFunds"),
            PoolRefusal::PremiumTooLow => Some("NonceTaken"),
            PoolRefusal::NonceGap
            | PoolRefusal::FeeCapTooLow
            | PoolRefusal::TooMany
            | PoolRefusal::TooBig
            | PoolRefusal::BadSignature
            | PoolRefusal::NotValid => Some("PoolRefuses"),
        },
        Error::Secret(_) => Some("SignerNotReady"),
        Error::Wallet(_) | Error::Bytes(_) | Error::Invalid(_) => Some("CannotSign"),
        Error::FeeBound(_) => Some("FeeBound"),
        Error::Chain(_)
        | Error::Conflict
        | Error::Taken
        | Error::Gone
        | Error::NoLongerDue(_)
        | Error::NotLeader
        | Error::Timeout
        | Error::Refused(_)
        | Error::Api(_)
        | Error::NotConnected(_)
        | Error::EvictionRefused { .. } => None,
    }
}

/// The message of a spec, without nonce and gas.
fn unsigned(spec: &ChainMessageSpec) -> Result<Message, Error> {
    let address = |field: &str, text: &str| {
        parse_address(text).map_err(|e| Error::Invalid(format!("spec.{field}: {e}")))
    };
    let params = BASE64
        .decode(&spec.params)
        .map_err(|_| Error::Invalid("spec.params is not base64".into()))?;
    let mut message = Message::new(
        address("from", &spec.from)?,
        address("to", &spec.to)?,
        spec.method,
        params,
    );
    message.value = amount("value", &spec.value)?;
    Ok(message)
}

fn amount(field: &str, text: &str) -> Result<AttoFil, Error> {
    text.parse()
        .map_err(|e| Error::Invalid(format!("spec.{field}: {e}")))
}

/// The status after signing.
fn signed_status(
    object: &ChainMessage,
    signed: &SignedMessage,
    now: Timestamp,
) -> ChainMessageStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let message = &signed.message;
    status.state = Some(MessageState::Signed);
    status.nonce = Some(message.nonce);
    status.changed = Some(Time(now));
    status.versions.push(SignedVersion {
        cid: signed.cid().to_string(),
        gas_fee_cap: message.gas_fee_cap.to_atto_string(),
        gas_premium: message.gas_premium.to_atto_string(),
        gas_limit: i64::try_from(message.gas_limit).unwrap_or(i64::MAX),
        bytes: BASE64.encode(signed.to_cbor()),
    });
    set_condition(
        &mut status.conditions,
        conditions::READY,
        false,
        "Signed",
        &format!(
            "signed with nonce {}, at most {} in fees",
            message.nonce,
            message.max_fee()
        ),
        object.metadata.generation,
        now,
    );
    status
}

/// The message as it is now, if it is still the one to push.
fn due(live: Guarded<ChainMessage>, version: &str) -> Result<ChainMessage, Error> {
    let message = readable(live)?;
    if message.resource_version().as_deref() != Some(version) {
        return Err(Error::Conflict);
    }
    match message.status.as_ref().and_then(|s| s.state) {
        Some(MessageState::Signed | MessageState::Pushed | MessageState::Landed) => Ok(message),
        Some(MessageState::Wish | MessageState::Final | MessageState::Failed) | None => {
            Err(Error::NoLongerDue("nothing signed waits there"))
        }
    }
}

/// The newest signed version, as stored.
fn newest(message: &ChainMessage) -> Result<SignedMessage, Error> {
    let versions = message
        .status
        .as_ref()
        .map(|s| s.versions.as_slice())
        .unwrap_or_default();
    let version = versions
        .last()
        .ok_or(Error::NoLongerDue("no version is signed"))?;
    let bytes = BASE64
        .decode(&version.bytes)
        .map_err(|_| Error::Invalid("the stored bytes are not base64".into()))?;
    let signed = SignedMessage::from_cbor(&bytes)?;
    if signed.cid().to_string() != version.cid {
        return Err(Error::Invalid(format!(
            "the stored bytes are those of {}, not of {}",
            signed.cid(),
            version.cid
        )));
    }
    Ok(signed)
}
