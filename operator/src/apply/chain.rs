//! Draws randomness, and computes what a message must bring along.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::node::{ChainReader, MinerReader, RandomnessReader};
use filstar_chain::randomness::{Tag, miner_entropy};
use filstar_chain::types::{ActorId, AttoFil, Epoch, SectorSize};
use filstar_core::action::Collateral;
use filstar_core::world::Id;
use filstar_crds::{ChainMessage, ChainMessageSpec, SectorStatus, labels};
use kube::ResourceExt;

use super::{Applier, Error, Scene};
use crate::watch::Change;

/// Randomness to draw, and where it goes.
pub(super) struct Draw {
    pub(super) id: Id,
    pub(super) miner: Id,
    pub(super) epoch: Epoch,
    pub(super) status: Box<SectorStatus>,
    pub(super) resource_version: String,
}

impl Applier {
    pub(super) async fn draw_ticket(&self, mut draw: Draw, scene: &Scene) -> Result<Change, Error> {
        let value = self.draw(&draw, scene, Tag::SealRandomness).await?;
        let ticket = draw.status.ticket.as_mut();
        ticket
            .ok_or_else(|| Error::Invalid("the status has no ticket to fill in".into()))?
            .value = value;
        self.patch_sector(&draw.id, &draw.status, &draw.resource_version, None)
            .await
    }

    pub(super) async fn draw_seed(&self, mut draw: Draw, scene: &Scene) -> Result<Change, Error> {
        let value = self
            .draw(&draw, scene, Tag::InteractiveSealChallengeSeed)
            .await?;
        let seed = draw.status.seed.as_mut();
        seed.ok_or_else(|| Error::Invalid("the status has no seed to fill in".into()))?
            .value = value;
        self.patch_sector(&draw.id, &draw.status, &draw.resource_version, None)
            .await
    }

    /// Draws at a head that is read now, so that the answer is of the chain as it is.
    async fn draw(&self, draw: &Draw, scene: &Scene, tag: Tag) -> Result<String, Error> {
        let node = self.node(&draw.miner)?;
        let entropy = miner_entropy(actor(scene)?);
        let head = node.chain_head().await.map_err(|e| self.count_rpc(e))?;
        if head.height <= draw.epoch {
            return Err(Error::NoLongerDue("the chain is not that far any more"));
        }
        let value = if tag == Tag::InteractiveSealChallengeSeed {
            node.randomness_from_beacon(tag, draw.epoch, &entropy, &head.key)
        } else {
            node.randomness_from_tickets(tag, draw.epoch, &entropy, &head.key)
        };
        let value = value.await;
        Ok(BASE64.encode(value.map_err(|e| self.count_rpc(e))?))
    }

    pub(super) async fn create_message(
        &self,
        id: &Id,
        mut spec: ChainMessageSpec,
        collateral: &Collateral,
        scene: &Scene,
    ) -> Result<Change, Error> {
        let value = self.value_of(collateral, scene).await?;
        spec.value = format!("{} attoFIL", value.to_atto_string());
        let own = [
            (labels::MANAGED_BY, "filstar"),
            (labels::MINER, spec.miner_ref.name.as_str()),
        ];
        let mut own: Vec<_> = own.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        if let [number] = spec.sectors.as_slice() {
            own.push((labels::SECTOR.to_owned(), number.to_string()));
        }
        let mut message = ChainMessage::new(&id.name, spec);
        message.metadata.namespace = Some(id.namespace.clone());
        message.labels_mut().extend(own);
        self.create(id, message).await
    }

    async fn value_of(&self, collateral: &Collateral, scene: &Scene) -> Result<AttoFil, Error> {
        match collateral {
            Collateral::None => Ok(AttoFil::zero()),
            Collateral::Deposit { miner, info } => {
                let node = self.node(miner)?;
                let head = node.chain_head().await.map_err(|e| self.count_rpc(e))?;
                let deposit = node.precommit_deposit(actor(scene)?, info, &head.key).await;
                deposit.map_err(|e| self.count_rpc(e))
            }
            Collateral::Pledge {
                miner,
                sector_size,
                duration,
                deposit,
            } => {
                let size = SectorSize::from_bytes(*sector_size)
                    .ok_or_else(|| Error::Invalid(format!("no sector has {sector_size} bytes")))?;
                let node = self.node(miner)?;
                let head = node.chain_head().await.map_err(|e| self.count_rpc(e))?;
                let pledge = node.initial_pledge(*duration, size, 0, &head.key).await;
                Ok(pledge
                    .map_err(|e| self.count_rpc(e))?
                    .saturating_sub(deposit))
            }
        }
    }
}

fn actor(scene: &Scene) -> Result<ActorId, Error> {
    let miner = scene.miner.as_ref().ok_or(Error::Gone)?;
    miner
        .spec
        .actor_id
        .parse()
        .map_err(|e| Error::Invalid(format!("spec.actorId: {e}")))
}
