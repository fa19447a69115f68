//! Gate `GasPrice`: nothing new is begun while gas costs more than the group's bound.

use filstar_chain::gas::MIN_BASE_FEE_ATTO;
use filstar_chain::types::AttoFil;
use filstar_crds::SealingGroup;

use super::gate::{Gate, Verdict};
use super::text::fil_up;
use crate::world::ChainFacts;

pub(super) fn verdict(chain: Option<&ChainFacts>, group: &SealingGroup) -> Verdict {
    const GATE: Gate = Gate::GasPrice;
    let Some(text) = &group.spec.pledge.gates.gas_price.max_base_fee else {
        return Verdict::open(
            GATE,
            "any price: pledge.gates.gasPrice.maxBaseFee is not set",
        );
    };
    let bound: AttoFil = match text.parse() {
        Ok(bound) => bound,
        Err(error) => {
            let text = format!("pledge.gates.gasPrice.maxBaseFee: {error}");
            return Verdict::closed(GATE, text);
        }
    };
    if bound < AttoFil::from(MIN_BASE_FEE_ATTO) {
        let text = format!(
            "maxBaseFee is {bound} and the network's least base fee is {MIN_BASE_FEE_ATTO} attoFIL: it would never open; \
             raise it"
        );
        return Verdict::closed(GATE, text);
    }
    match chain {
        None => Verdict::closed(
            GATE,
            "the base fee is not known until the chain node answers",
        ),
        Some(chain) if chain.next_base_fee > bound => Verdict::closed(
            GATE,
            format!(
                "the next base fee is {}, more than maxBaseFee of {bound}; it opens when the fee falls",
                fil_up(&chain.next_base_fee)
            ),
        ),
        Some(_) => Verdict::open(GATE, format!("the next base fee is at most {bound}")),
    }
}
