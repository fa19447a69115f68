//! Amounts as people read them: three digits, rounded to the side that never flatters.

use filstar_chain::types::AttoFil;

/// Digits that are shown.
const DIGITS: usize = 3;

/// What there is: rounded down, such as `12.4 FIL`.
pub(super) fn fil_down(amount: &AttoFil) -> String {
    rounded(amount, false)
}

/// What is needed: rounded up.
pub(super) fn fil_up(amount: &AttoFil) -> String {
    rounded(amount, true)
}

fn rounded(amount: &AttoFil, up: bool) -> String {
    let text = amount.to_atto_string();
    if text.starts_with('-') || text.len() <= DIGITS {
        return amount.to_string();
    }
    let (head, tail) = text.split_at(DIGITS);
    let more = u64::from(up && tail.bytes().any(|b| b != b'0'));
    // Three digits fit.
    let head = head.parse::<u64>().unwrap_or(0) + more;
    AttoFil::from_atto_str(&format!("{head}{}", "0".repeat(tail.len())))
        .map_or_else(|_| amount.to_string(), |a| a.to_string())
}

/// Bytes, rounded down, such as `517 GiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut power = 0;
    while power + 1 < UNITS.len() && number >> (10 * (power + 1)) > 0 {
        power += 1;
    }
    let hundredths = (u128::from(number) * 100) >> (10 * power);
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    let decimals = match whole {
        0..10 if rest % 10 != 0 => format!(".{rest:02}"),
        0..100 if rest / 10 != 0 => format!(".{}", rest / 10),
        _ => String::new(),
    };
    format!("{whole}{decimals} {}", UNITS[power])
}

/// More sectors are not counted one by one.
const MANY: u64 = 1000;

/// `room for 3 more sectors of 517 GiB`.
pub(super) fn room_for(sectors: u64, size: u64) -> String {
    let size = bytes(size);
    match sectors {
        1 => format!("room for 1 more sector of {size}"),
        0..=MANY => format!("room for {sectors} more sectors of {size}"),
        _ => format!("room for more than {MANY} more sectors of {size}"),
    }
}

/// `1 sector`, `2 sectors`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fil(text: &str) -> AttoFil {
        text.parse().unwrap()
    }

    #[test]
    fn what_there_is_is_rounded_down_and_what_is_needed_up() {
        assert_eq!(fil_down(&fil("12.4999 FIL")), "12.4 FIL");
        assert_eq!(fil_up(&fil("17.01 FIL")), "17.1 FIL");
        assert_eq!(fil_up(&fil("17 FIL")), "17 FIL");
        assert_eq!(fil_up(&fil("99.99 FIL")), "100 FIL");
        assert_eq!(fil_down(&AttoFil::zero()), "0 FIL");
        let negative = AttoFil::zero() - fil("1.5 FIL");
        assert_eq!(fil_down(&negative), "-1.5 FIL");
    }

    #[test]
    fn two_amounts_that_differ_never_look_the_same() {
        let (has, needs) = (fil("9.9991 FIL"), fil("9.9999 FIL"));
        assert_ne!(fil_down(&has), fil_up(&needs));
    }

    #[test]
    fn bytes_have_three_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(554_990_000_000), "516 GiB");
        assert_eq!(bytes(12_345), "12 KiB");
        assert_eq!(bytes(12_945), "12.6 KiB");
        assert_eq!(bytes((1 << 20) + (1 << 14)), "1.01 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }
}
