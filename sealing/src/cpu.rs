//! Whether this processor can run what was compiled.
//!
//! Our programs are compiled for processors with SHA extensions: without them the proof library is
//! 7 times slower. A processor that lacks them would stop the program with an illegal instruction,
//! which nobody understands; so ask first.

/// What is missing, as a sentence, or none.
///
/// `is_x86_feature_detected!` cannot be asked: the compiler was told that the features are there
/// and answers for the processor. So this reads CPUID itself.
#[cfg(target_arch = "x86_64")]
pub fn missing() -> Option<String> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const SSSE3: u32 = 1 << 9;
    const SSE41: u32 = 1 << 19;
    const SHA: u32 = 1 << 29;
    let basic = __cpuid(1).ecx;
    let extended = if __cpuid(0).eax >= 7 {
        __cpuid_count(7, 0).ebx
    } else {
        0
    };
    let lacks = [
        ("SSSE3", basic & SSSE3 == 0),
        ("SSE4.1", basic & SSE41 == 0),
        ("SHA", extended & SHA == 0),
    ];
    let names: Vec<_> = lacks
        .iter()
        .filter(|(_, gone)| *gone)
        .map(|(name, _)| *name)
        .collect();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "this processor lacks {}: sealing needs AMD Zen, Intel Ice Lake or later (on a virtual \
         machine: a CPU model that passes these features on)",
        names.join(" and ")
    ))
}

/// Other processors run what was compiled for them.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_lacks_nothing() {
        assert_eq!(super::missing(), None);
    }
}
