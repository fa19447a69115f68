//! Names of what we make: each follows from what it is for, so that a rerun finds what an earlier run made.

use filstar_crds::MessageKind;

/// Name of a sector: its allocation.
pub fn sector(actor: &str, number: u64) -> String {
    format!("{actor}-{number}")
}

/// Whether this is the name of a sector. Asked for every sector of every plan, so none is made to compare with.
pub fn is_sector(name: &str, actor: &str, number: u64) -> bool {
    let digits = name.strip_prefix(actor).and_then(|n| n.strip_prefix('-'));
    let canonical =
        |d: &&str| d.bytes().all(|b| b.is_ascii_digit()) && (*d == "0" || !d.starts_with('0'));
    digits.filter(canonical).and_then(|d| d.parse().ok()) == Some(number)
}

/// Names of the messages for one purpose share this prefix; a number follows.
pub fn sector_message_prefix(sector: &str, kind: MessageKind) -> String {
    let purpose = match kind {
        MessageKind::PreCommit => "precommit",
        MessageKind::ProveCommit => "commit",
        MessageKind::WindowPost => "post",
        MessageKind::DeclareRecovered => "recover",
    };
    format!("{sector}-{purpose}-")
}

/// Prefix of the messages that carry the proof of one partition in one window.
pub fn post_message_prefix(actor: &str, open: i64, deadline: i64, partition: i64) -> String {
    format!("{actor}-post-{open}-{deadline}-{partition}-")
}

/// Prefix of the messages that declare recoveries before a deadline opens.
pub fn recover_message_prefix(actor: &str, open: i64, deadline: u64) -> String {
    format!("{actor}-recover-{open}-{deadline}-")
}

/// Name of a pod of a lane on a node; the first has no number.
pub fn sealer_pod(group: &str, lane: &str, node: &str, index: u32) -> String {
    let node = fnv1a(node.as_bytes()) & 0xffff_ffff;
    match index {
        0 => format!("{group}-{lane}-{node:08x}"),
        index => format!("{group}-{lane}-{node:08x}-{index}"),
    }
}

/// Name of the disruption budget of a group's pods on a node.
pub fn sealer_budget(group: &str, node: &str) -> String {
    format!("{group}-{:08x}", fnv1a(node.as_bytes()) & 0xffff_ffff)
}

/// A node's name as the value of a label, which has at most 63 characters.
pub fn node_label(node: &str) -> String {
    if node.len() <= 63 {
        node.to_owned()
    } else {
        format!("{:016x}", fnv1a(node.as_bytes()))
    }
}

/// Name of a batch's prover pod.
pub fn prover_pod(batch: &str) -> String {
    format!("prover-{batch}")
}

/// FNV-1a, 64 bits: short and stable across versions and machines.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_more(0xcbf2_9ce4_8422_2325, bytes)
}

/// The hash of what `hash` is of, and of `bytes` behind it.
pub fn fnv1a_more(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A hash in sixteen hexadecimal digits, as `{:016x}` writes it. Each plan writes one for every pod, and the formatter
/// takes as long for it as all the rest of a pod's hash.
pub fn hex(hash: u64) -> String {
    let digit = |byte: u8| {
        char::from(if byte < 10 {
            b'0' + byte
        } else {
            b'a' - 10 + byte
        })
    };
    let bytes = hash.to_be_bytes();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_fnv1a_64() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a_more(fnv1a(b"fil"), b"star"), fnv1a(b"filstar"));
    }

    #[test]
    fn hash_is_written_as_the_formatter_writes_it() {
        for hash in [0, 1, 0xabcd_ef01_2345_6789, u64::MAX, fnv1a(b"filstar")] {
            assert_eq!(hex(hash), format!("{hash:016x}"));
        }
    }

    #[test]
    fn a_sector_has_one_name() {
        for number in [0, 7, 10, u64::MAX] {
            assert!(is_sector(&sector("t01000", number), "t01000", number));
        }
        for wrong in [
            "t01000-07",
            "t01000-+7",
            "t01000-",
            "t01000-8",
            "t0100-7",
            "t01000-7-7",
            "7",
        ] {
            assert!(!is_sector(wrong, "t01000", 7), "{wrong}");
        }
        assert!(!is_sector("t01000-00", "t01000", 0));
    }
}
