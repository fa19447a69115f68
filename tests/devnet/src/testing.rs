//! A chain for unit tests: small deadlines, proofs that are good when they say so.

use std::sync::Arc;

use cid::Cid;
use fil_actor_miner_state::v18::{
    CompactCommD, PoStPartition, PreCommitSectorBatchParams2, ProveCommitSectors3Params,
    SectorActivationManifest, SectorPreCommitInfo, State, SubmitWindowedPoStParams,
};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::commcid::replica_commitment_v1_to_cid;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use fvm_shared::randomness::Randomness;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof, RegisteredSealProof};
use serde::Serialize;

use crate::actor::{TAG_CHAIN_COMMIT, load_state};
use crate::chain::genesis::{MinerKeys, account_key, miner_keys};
use crate::chain::{Chain, ChainError};
use crate::codec::{cbor, draw_randomness};
use crate::config::Config;
use crate::keys::Key;
use crate::message::{Receipt, SignedMessage, message_cid};
use crate::verifier::{ProofVerifier, SealStatement, StockVerifier, WindowStatement};

pub(crate) const MINER: u64 = 1000;
const GOOD: u8 = 7;

/// Takes proofs that are all sevens.
struct FakeVerifier;

impl ProofVerifier for FakeVerifier {
    fn seal(&self, _: &SealStatement, proof: &[u8]) -> Result<(), String> {
        if proof.iter().all(|b| *b == GOOD) {
            Ok(())
        } else {
            Err("fake: bad".to_owned())
        }
    }

    fn window_post(&self, _: &WindowStatement, proof: &PoStProof) -> Result<(), String> {
        if proof.proof_bytes.iter().all(|b| *b == GOOD) {
            Ok(())
        } else {
            Err("fake: bad".to_owned())
        }
    }
}

pub(crate) fn config() -> Config {
    Config {
        seed: "test".to_owned(),
        genesis_time_ms: 1_700_000_000_000,
        deadlines: 8,
        challenge_window: 15,
        challenge_lookback: 5,
        fault_declaration_cutoff: 7,
        max_ticket_age: Some(3_780),
        ..Config::default()
    }
}

pub(crate) struct TestChain {
    pub(crate) chain: Chain,
    pub(crate) keys: MinerKeys,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl TestChain {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        fvm_shared::address::set_current_network(fvm_shared::address::Network::Testnet);
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, config, Arc::new(FakeVerifier))
    }

    /// With the verifier of the real thing.
    pub(crate) fn real() -> Self {
        fvm_shared::address::set_current_network(fvm_shared::address::Network::Testnet);
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, config(), Arc::new(StockVerifier))
    }

    fn open(dir: Arc<tempfile::TempDir>, config: Config, verifier: Arc<dyn ProofVerifier>) -> Self {
        let keys = miner_keys(&config, &config.miners[0]);
        let chain = Chain::open(dir.path(), config, verifier).unwrap();
        Self { chain, keys, dir }
    }

    /// The chain as another process would find it.
    pub(crate) fn reopen(self) -> Self {
        let config = self.chain.config.clone();
        let dir = Arc::clone(&self.dir);
        drop(self.chain);
        Self::open(dir, config, Arc::new(FakeVerifier))
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.chain.head().height
    }

    pub(crate) fn advance(&mut self, epochs: i64) {
        for _ in 0..epochs {
            let height = self.chain.next_height();
            self.chain.tick(height).unwrap();
        }
    }

    pub(crate) fn message(&self, key: &Key, to: Address, method: u64, params: Vec<u8>) -> Message {
        Message {
            version: 0,
            from: key.address,
            to,
            sequence: self.chain.next_nonce(&key.address),
            value: TokenAmount::default(),
            method_num: method,
            params: RawBytes::new(params),
            gas_limit: 1_000_000_000,
            gas_fee_cap: TokenAmount::from_nano(1),
            gas_premium: TokenAmount::from_atto(100_000),
        }
    }

    pub(crate) fn push(&mut self, key: &Key, message: Message) -> Result<Cid, ChainError> {
        let signature = key.sign(&message_cid(&message).to_bytes());
        self.chain.push(SignedMessage { message, signature }, None)
    }

    /// Sends to the miner from its worker, makes one epoch, gives the receipt.
    pub(crate) fn call<T: Serialize>(&mut self, method: u64, params: &T) -> Receipt {
        let key = Key::from_info(self.keys.worker.info.clone()).unwrap();
        self.call_from(&key, method, params)
    }

    pub(crate) fn call_from<T: Serialize>(
        &mut self,
        key: &Key,
        method: u64,
        params: &T,
    ) -> Receipt {
        let message = self.message(key, Address::new_id(MINER), method, cbor(params));
        let cid = self.push(key, message).unwrap();
        self.advance(1);
        self.receipt(&cid)
    }

    pub(crate) fn receipt(&self, cid: &Cid) -> Receipt {
        let head = self.chain.head();
        head.receipts[head.index_of(cid).expect("the message is in the head")].clone()
    }

    /// The miner's state after the head.
    pub(crate) fn state(&self) -> State {
        let head = self.chain.head();
        let miner = head
            .state
            .get(MINER)
            .and_then(|a| a.miner.as_ref())
            .unwrap();
        load_state(&self.chain.scratch(), &miner.state).unwrap()
    }

    pub(crate) fn balance(&self, id: u64) -> TokenAmount {
        self.chain.head().state.get(id).unwrap().balance.clone()
    }

    pub(crate) fn raw_power(&self) -> u64 {
        let head = self.chain.head();
        let power = &head.state.get(MINER).unwrap().miner.as_ref().unwrap().power;
        u64::try_from(power.raw.clone()).unwrap()
    }

    pub(crate) fn stranger(&self) -> Key {
        account_key(&self.chain.config, 0)
    }

    pub(crate) fn pre_commit_info(&self, number: u64) -> SectorPreCommitInfo {
        SectorPreCommitInfo {
            seal_proof: RegisteredSealProof::StackedDRG2KiBV1P1,
            sector_number: number,
            sealed_cid: replica_commitment_v1_to_cid(
                &[u8::try_from(number % 200).unwrap() + 1; 32],
            )
            .unwrap(),
            seal_rand_epoch: self.epoch(),
            deal_ids: Vec::new(),
            expiration: self.epoch() + 86_410 + 180 * 2_880 + 10,
            unsealed_cid: CompactCommD::empty(),
        }
    }

    pub(crate) fn pre_commit(&mut self, numbers: &[u64]) -> Receipt {
        let sectors = numbers.iter().map(|n| self.pre_commit_info(*n)).collect();
        self.call(28, &PreCommitSectorBatchParams2 { sectors })
    }

    pub(crate) fn prove_commit(&mut self, sectors: &[(u64, bool)], all: bool) -> Receipt {
        let params = ProveCommitSectors3Params {
            sector_activations: sectors
                .iter()
                .map(|(n, _)| SectorActivationManifest {
                    sector_number: *n,
                    pieces: Vec::new(),
                })
                .collect(),
            sector_proofs: sectors
                .iter()
                .map(|(_, good)| RawBytes::new(vec![if *good { GOOD } else { 0 }; 192]))
                .collect(),
            aggregate_proof: RawBytes::default(),
            aggregate_proof_type: None,
            require_activation_success: all,
            require_notification_success: false,
        };
        self.call(34, &params)
    }

    /// Brings sectors on chain; they are not proven by a window proof yet.
    pub(crate) fn commit(&mut self, numbers: &[u64]) {
        assert_eq!(self.pre_commit(numbers).exit_code, 0);
        self.advance(self.chain.config.pre_commit_challenge_delay + 1);
        let sectors: Vec<_> = numbers.iter().map(|n| (*n, true)).collect();
        let receipt = self.prove_commit(&sectors, true);
        assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    }

    pub(crate) fn location(&self, number: u64) -> (u64, u64) {
        self.state()
            .find_sector(&self.chain.scratch(), number)
            .unwrap()
    }

    /// Goes to the epoch from which the next message lands in the open deadline of this index.
    pub(crate) fn advance_to_deadline(&mut self, index: u64) {
        loop {
            let next = self.epoch() + 1;
            let info = self.state().deadline_info(&self.chain.rules.policy, next);
            if info.index == index && info.is_open() && next > info.open {
                return;
            }
            self.advance(1);
        }
    }

    pub(crate) fn post_params(
        &self,
        deadline: u64,
        partition: u64,
        skipped: &[u64],
        good: bool,
    ) -> SubmitWindowedPoStParams {
        let epoch = self.epoch();
        let digest = self.chain.ticket_digest(self.chain.head(), epoch).unwrap();
        SubmitWindowedPoStParams {
            deadline,
            partitions: vec![PoStPartition {
                index: partition,
                skipped: BitField::try_from_bits(skipped.iter().copied()).unwrap(),
            }],
            proofs: vec![PoStProof {
                post_proof: RegisteredPoStProof::StackedDRGWindow2KiBV1P1,
                proof_bytes: vec![if good { GOOD } else { 0 }; 192],
            }],
            chain_commit_epoch: epoch,
            chain_commit_rand: Randomness(
                draw_randomness(TAG_CHAIN_COMMIT, &digest, epoch, &[]).to_vec(),
            ),
        }
    }

    /// Proves the partition of a sector in its next deadline.
    pub(crate) fn prove_window(&mut self, number: u64) -> Receipt {
        let (deadline, partition) = self.location(number);
        self.advance_to_deadline(deadline);
        let params = self.post_params(deadline, partition, &[], true);
        self.call(5, &params)
    }
}
