//! Pledging by hand: one Sector object more. Its name is the allocation of its number.

use anyhow::bail;
use filstar_crds::{LocalRef, Miner, Restart, SealingGroup, Sector, SectorSpec};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::text::plain;

/// Creates the Sector and returns its name.
pub(crate) async fn pledge(
    client: &Client,
    namespace: &str,
    group: &str,
    number: Option<i64>,
) -> anyhow::Result<String> {
    let groups: Api<SealingGroup> = Api::namespaced(client.clone(), namespace);
    let miners: Api<Miner> = Api::namespaced(client.clone(), namespace);
    let sectors: Api<Sector> = Api::namespaced(client.clone(), namespace);
    let group = groups.get(group).await.map_err(plain)?;
    let miner = miners
        .get(&group.spec.miner_ref.name)
        .await
        .map_err(plain)?;
    let number = number_for(&miner, number)?;
    let sector = sector(&miner, &group, number);
    let name = sector.name_any();
    sectors
        .create(&PostParams::default(), &sector)
        .await
        .map_err(plain)?;
    Ok(name)
}

/// The number asked for, or the Miner's next one.
fn number_for(miner: &Miner, asked: Option<i64>) -> anyhow::Result<i64> {
    if let Some(number) = asked {
        return Ok(number);
    }
    match miner.status.as_ref().and_then(|s| s.next_sector_number) {
        Some(number) => Ok(number),
        None => bail!(
            "the operator has not said yet which number of Miner {} is next; wait, or give --number",
            miner.name_any()
        ),
    }
}

fn sector(miner: &Miner, group: &SealingGroup, number: i64) -> Sector {
    let spec = SectorSpec {
        miner_ref: LocalRef::new(miner.name_any()),
        group_ref: LocalRef::new(group.name_any()),
        number,
        seal_proof: miner.spec.seal_proof,
        paused: false,
        restart: Restart::default(),
    };
    Sector::new(&format!("{}-{number}", miner.spec.actor_id), spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn sector_is_named_by_actor_and_number() {
        let world = testing::demo();
        let made = sector(&world.miners[0], &world.groups[0], 7);
        assert_eq!(made.name_any(), "t01000-7");
        assert_eq!(made.spec.group_ref.name, "demo");
        assert_eq!(made.spec.seal_proof, world.miners[0].spec.seal_proof);
    }

    #[test]
    fn number_is_the_miners_next_when_none_is_asked_for() {
        let mut miner = testing::demo().miners.remove(0);
        assert_eq!(number_for(&miner, None).unwrap(), 2);
        assert_eq!(number_for(&miner, Some(9)).unwrap(), 9);
        miner.status = None;
        assert!(
            number_for(&miner, None)
                .unwrap_err()
                .to_string()
                .contains("--number")
        );
    }
}
