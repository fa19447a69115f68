//! Settings of a chain, fixed when its folder is made; and the actor rules that follow from them.

use fil_actor_miner_state::v18::max_prove_commit_duration;
use fil_actors_shared::v18::runtime::Policy;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::{RegisteredPoStProof, RegisteredSealProof};
use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

/// One miner actor that exists from the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MinerConfig {
    /// Id of the actor, from 1000.
    pub(crate) actor_id: u64,
    /// Number of the registered seal proof; 5 is 2 KiB V1P1.
    #[serde(default = "default_seal_proof")]
    pub(crate) seal_proof: i64,
    /// Control addresses besides owner and worker.
    #[serde(default)]
    pub(crate) control_keys: u32,
    /// What the actor owns at the start, in attoFIL.
    #[serde(default = "default_miner_balance")]
    pub(crate) balance: String,
    /// First epoch of a proving period; any epoch, taken modulo the period.
    #[serde(default)]
    pub(crate) period_offset: i64,
}

fn default_seal_proof() -> i64 {
    5
}

fn default_miner_balance() -> String {
    TokenAmount::from_whole(1_000).atto().to_string()
}

impl MinerConfig {
    pub(crate) fn new(actor_id: u64) -> Self {
        Self {
            actor_id,
            seal_proof: default_seal_proof(),
            control_keys: 1,
            balance: default_miner_balance(),
            period_offset: 0,
        }
    }
}

/// All settings. Amounts of money are decimal strings in attoFIL, times are epochs unless named.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) network_name: String,
    /// Keys, tickets and null rounds follow from it. Whoever knows it has every key.
    pub(crate) seed: String,
    /// Unix time of epoch 0, in milliseconds; 0 = when the folder is made.
    pub(crate) genesis_time_ms: u64,
    pub(crate) block_delay_ms: u64,
    pub(crate) blocks_per_tipset: u64,
    /// Chance of a null round, of a thousand.
    pub(crate) null_permille: u64,
    pub(crate) initial_base_fee: String,
    /// Tipsets whose blocks, state and messages stay queryable.
    pub(crate) retain_tipsets: usize,

    pub(crate) deadlines: u64,
    pub(crate) challenge_window: i64,
    pub(crate) challenge_lookback: i64,
    pub(crate) fault_declaration_cutoff: i64,
    pub(crate) fault_max_age: Option<i64>,
    pub(crate) pre_commit_challenge_delay: i64,
    pub(crate) finality: i64,
    /// How old a seal ticket may be; finality and a proving period unless set.
    pub(crate) max_ticket_age: Option<i64>,
    pub(crate) max_prove_commit_duration: Option<i64>,
    pub(crate) pre_commit_clean_up_delay: Option<i64>,
    pub(crate) min_sector_lifetime: Option<i64>,

    /// Deposit for one sector, in attoFIL.
    pub(crate) pre_commit_deposit: String,
    /// Initial pledge of one sector, in attoFIL.
    pub(crate) initial_pledge: String,
    /// Fee of one sector for one more proving period as a fault, in attoFIL.
    pub(crate) fault_fee: String,
    pub(crate) circulating_supply: String,
    /// Raw power from which a miner may win blocks, in bytes.
    pub(crate) consensus_min_power: u64,

    pub(crate) miners: Vec<MinerConfig>,
    /// Funded secp256k1 accounts besides the miners' own.
    pub(crate) accounts: u32,
    /// What each account owns at the start, in attoFIL.
    pub(crate) account_balance: String,
}

impl Default for Config {
    fn default() -> Self {
        let fil = |n: i64| TokenAmount::from_whole(n).atto().to_string();
        let milli = |n: i64| TokenAmount::from_nano(n * 1_000_000).atto().to_string();
        Self {
            network_name: "devnet".to_owned(),
            seed: String::new(),
            genesis_time_ms: 0,
            block_delay_ms: 1_000,
            blocks_per_tipset: 1,
            null_permille: 0,
            initial_base_fee: "100".to_owned(),
            retain_tipsets: 10_000,
            deadlines: 48,
            challenge_window: 60,
            challenge_lookback: 20,
            fault_declaration_cutoff: 70,
            fault_max_age: None,
            pre_commit_challenge_delay: 10,
            finality: 900,
            max_ticket_age: None,
            max_prove_commit_duration: None,
            pre_commit_clean_up_delay: None,
            min_sector_lifetime: None,
            pre_commit_deposit: milli(80),
            initial_pledge: milli(130),
            fault_fee: milli(2),
            circulating_supply: fil(700_000_000),
            consensus_min_power: 2_048,
            miners: vec![MinerConfig::new(1000)],
            accounts: 4,
            account_balance: fil(10_000),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{0}: {1:?} is not an amount in attoFIL")]
    Amount(&'static str, String),
    #[error("{0}")]
    Value(String),
}

/// An amount of the settings.
pub(crate) fn amount(name: &'static str, text: &str) -> Result<TokenAmount, ConfigError> {
    text.parse::<BigInt>()
        .map(TokenAmount::from_atto)
        .map_err(|_| ConfigError::Amount(name, text.to_owned()))
}

/// The rules of the actors for this chain.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) deposit: TokenAmount,
    pub(crate) pledge: TokenAmount,
    pub(crate) fault_fee: TokenAmount,
    pub(crate) circulating_supply: TokenAmount,
    max_prove_commit_duration: Option<i64>,
}

impl Rules {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut policy = Policy {
            wpost_period_deadlines: config.deadlines,
            wpost_challenge_window: config.challenge_window,
            wpost_proving_period: config.period(),
            wpost_max_chain_commit_age: config.challenge_window,
            wpost_challenge_lookback: config.challenge_lookback,
            fault_declaration_cutoff: config.fault_declaration_cutoff,
            fault_max_age: config.fault_max_age.unwrap_or(42 * config.period()),
            pre_commit_challenge_delay: config.pre_commit_challenge_delay,
            chain_finality: config.finality,
            wpost_dispute_window: 2 * config.finality,
            max_pre_commit_randomness_lookback: config
                .max_ticket_age
                .unwrap_or(config.period() + config.finality),
            ..Policy::default()
        };
        if let Some(delay) = config.pre_commit_clean_up_delay {
            policy.expired_pre_commit_clean_up_delay = delay;
        }
        if let Some(least) = config.min_sector_lifetime {
            policy.min_sector_expiration = least;
        }
        allow_test_sizes(&mut policy);
        Ok(Self {
            policy,
            deposit: amount("preCommitDeposit", &config.pre_commit_deposit)?,
            pledge: amount("initialPledge", &config.initial_pledge)?,
            fault_fee: amount("faultFee", &config.fault_fee)?,
            circulating_supply: amount("circulatingSupply", &config.circulating_supply)?,
            max_prove_commit_duration: config.max_prove_commit_duration,
        })
    }

    /// Epochs from pre-commit until a prove-commit is too late; none for an unknown proof.
    pub(crate) fn max_prove_commit_duration(&self, proof: RegisteredSealProof) -> Option<i64> {
        let stock = max_prove_commit_duration(&self.policy, proof)?;
        Some(self.max_prove_commit_duration.unwrap_or(stock))
    }
}

fn allow_test_sizes(policy: &mut Policy) {
    for number in [5, 6, 7, 10, 11, 12] {
        policy
            .valid_pre_commit_proof_type
            .insert(RegisteredSealProof::from(number));
    }
    for number in [10, 11, 12] {
        policy
            .valid_post_proof_type
            .insert(RegisteredPoStProof::from(number));
    }
}

impl Config {
    /// Epochs of a proving period.
    pub(crate) fn period(&self) -> i64 {
        i64::try_from(self.deadlines).unwrap_or(i64::MAX / 1_000_000) * self.challenge_window
    }

    fn check(&self) -> Result<(), ConfigError> {
        let value = |ok: bool, text: &str| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::Value(text.to_owned()))
            }
        };
        value(
            (4..=48).contains(&self.deadlines),
            "deadlines must be from 4 to 48",
        )?;
        value(
            (2..=2880).contains(&self.challenge_window),
            "challengeWindow must be from 2 to 2880",
        )?;
        value(
            (1..=self.challenge_window * 2).contains(&self.challenge_lookback),
            "challengeLookback must be from 1 to two challenge windows",
        )?;
        value(
            self.fault_declaration_cutoff >= self.challenge_lookback,
            "faultDeclarationCutoff must not be less than challengeLookback: the challenge would be \
             known before faults are declared",
        )?;
        value(
            self.pre_commit_challenge_delay >= 1,
            "preCommitChallengeDelay must be 1 or more",
        )?;
        value(self.finality >= 1, "finality must be 1 or more")?;
        value(
            (1..=5).contains(&self.blocks_per_tipset),
            "blocksPerTipset must be from 1 to 5",
        )?;
        value(self.null_permille < 1000, "nullPermille must be below 1000")?;
        value(self.block_delay_ms >= 20, "blockDelayMs must be 20 or more")?;
        value(
            self.retain_tipsets >= 100,
            "retainTipsets must be 100 or more",
        )?;
        value(
            !self.miners.is_empty(),
            "at least one miner is needed: it makes the blocks",
        )?;
        value(
            self.miners.iter().all(|m| m.actor_id >= 1000),
            "actor ids of miners start at 1000",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_rules_of_mainnet_but_for_the_seed_delay() {
        let rules = Rules::new(&Config::default()).unwrap();
        let stock = Policy::default();
        assert_eq!(
            rules.policy.wpost_proving_period,
            stock.wpost_proving_period
        );
        assert_eq!(rules.policy.fault_max_age, stock.fault_max_age);
        assert_eq!(
            rules.policy.max_pre_commit_randomness_lookback,
            stock.max_pre_commit_randomness_lookback
        );
        assert_eq!(rules.policy.pre_commit_challenge_delay, 10);
        assert_eq!(
            rules.max_prove_commit_duration(RegisteredSealProof::StackedDRG2KiBV1P1),
            Some(86_410)
        );
    }

    #[test]
    fn settings_that_make_no_chain_are_refused_with_the_reason() {
        let config = Config {
            fault_declaration_cutoff: 1,
            ..Config::default()
        };
        assert!(
            Rules::new(&config)
                .unwrap_err()
                .to_string()
                .contains("faultDeclarationCutoff")
        );
        let config = Config {
            initial_pledge: "1 FIL".to_owned(),
            ..Config::default()
        };
        assert!(
            Rules::new(&config)
                .unwrap_err()
                .to_string()
                .contains("initialPledge")
        );
    }
}
