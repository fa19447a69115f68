//! Text forms of the API: durations, sizes, CPU counts.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A text of the API that is not of its form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct ParseError {
    text: String,
    wanted: &'static str,
}

fn bad(text: &str, wanted: &'static str) -> ParseError {
    ParseError {
        text: text.into(),
        wanted,
    }
}

const DURATION: &str = "a duration; write it like `90s`, `5m` or `1h30m`";
const BYTES: &str = "a size; write it like `512Mi` or `64Gi`";
const RANGES: &str = "a list of numbers and ranges in order; write it like `1-5,17`";
const CPUS: &str = "a number of CPUs; write it like `4` or `500m`";

/// Parses a Go-style duration such as `90s`, `250ms` or `1h30m`.
///
/// # Errors
/// When the text is of another form or too long for 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let mut rest = text;
    let mut total = 0u64;
    if rest.is_empty() {
        return Err(bad(text, DURATION));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let number: u64 = rest[..digits].parse().map_err(|_e| bad(text, DURATION))?;
        let millis = match &rest[digits..digits + unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad(text, DURATION)),
        };
        total = number
            .checked_mul(millis)
            .and_then(|m| total.checked_add(m))
            .ok_or_else(|| bad(text, DURATION))?;
        rest = &rest[digits + unit..];
    }
    Ok(Duration::from_millis(total))
}

/// Parses a Kubernetes quantity of bytes such as `64Gi`, `1T` or `4096`.
///
/// # Errors
/// When the text is of another form or larger than 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, ParseError> {
    const UNITS: [(&str, u64); 11] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("", 1),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_e| bad(text, BYTES))?;
    UNITS
        .iter()
        .find(|(name, _)| *name == &text[digits..])
        .and_then(|(_, unit)| number.checked_mul(*unit))
        .ok_or_else(|| bad(text, BYTES))
}

/// Parses a Kubernetes quantity of CPUs, in thousandths of a CPU: `4` is 4000, `500m` is 500.
///
/// # Errors
/// When the text is of another form.
pub fn parse_millicpus(text: &str) -> Result<u64, ParseError> {
    let parse = |t: &str| t.parse::<u64>().map_err(|_e| bad(text, CPUS));
    if let Some(milli) = text.strip_suffix('m') {
        return parse(milli);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 {
        return Err(bad(text, CPUS));
    }
    let thousandths = if part.is_empty() {
        0
    } else {
        parse(&format!("{part:0<3}"))?
    };
    parse(whole)?
        .checked_mul(1000)
        .and_then(|w| w.checked_add(thousandths))
        .ok_or_else(|| bad(text, CPUS))
}

/// Parses numbers and ranges such as `1-5,17`, smallest first; an empty text is none.
///
/// # Errors
/// When the text is of another form, or not in order.
pub fn parse_ranges(text: &str) -> Result<Vec<RangeInclusive<u64>>, ParseError> {
    let number = |t: &str| t.parse::<u64>().map_err(|_e| bad(text, RANGES));
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first)?..=number(last)?;
        let in_order = ranges.last().is_none_or(|r| r.end() < range.start());
        if range.is_empty() || !in_order {
            return Err(bad(text, RANGES));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Writes numbers as [`parse_ranges`] reads them, smallest first: as many whole ranges as fit into `max_chars`.
pub fn format_ranges(numbers: &BTreeSet<u64>, max_chars: usize) -> String {
    let mut text = String::new();
    let mut left = numbers.iter().copied().peekable();
    while let Some(first) = left.next() {
        let mut last = first;
        while let Some(next) = left.next_if(|n| n.checked_sub(1) == Some(last)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let part = if first == last {
            format!("{comma}{first}")
        } else {
            format!("{comma}{first}-{last}")
        };
        if text.len() + part.len() > max_chars {
            break;
        }
        text.push_str(&part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_style() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "5", "m", "5x", "1.5h", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_quantities() {
        assert_eq!(parse_bytes("64Gi"), Ok(64 << 30));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for text in ["", "Gi", "1.5Gi", "1 Gi", "99999999Pi", "-1"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_counted_in_thousandths() {
        assert_eq!(parse_millicpus("4"), Ok(4000));
        assert_eq!(parse_millicpus("500m"), Ok(500));
        assert_eq!(parse_millicpus("0.5"), Ok(500));
        assert!(parse_millicpus("four").is_err());
    }

    #[test]
    fn ranges_are_numbers_and_spans() {
        assert_eq!(parse_ranges("1-5,17"), Ok(vec![1..=5, 17..=17]));
        assert_eq!(parse_ranges(""), Ok(Vec::new()));
        for text in [
            ",",
            "1-",
            "-1",
            "5-1",
            "1,,2",
            "a",
            "1-2-3",
            "2,1",
            "1-3,3",
            "18446744073709551616",
        ] {
            assert!(parse_ranges(text).is_err(), "{text}");
        }
        assert_eq!(
            format_ranges(&[1, 2, 3, 17, 30, 31].into(), 99),
            "1-3,17,30-31"
        );
        assert_eq!(format_ranges(&[1, 2, 3, 17, 30, 31].into(), 8), "1-3,17");
        assert_eq!(
            format_ranges(&[u64::MAX - 1, u64::MAX].into(), 99),
            "18446744073709551614-18446744073709551615"
        );
    }

    proptest::proptest! {
        #[test]
        fn prop_no_text_makes_a_parser_panic(text in ".{0,40}") {
            drop((parse_duration(&text), parse_bytes(&text), parse_millicpus(&text), parse_ranges(&text)));
        }

        #[test]
        fn prop_ranges_read_back_as_written(numbers in proptest::collection::btree_set(0_u64..200, 0..80)) {
            let text = format_ranges(&numbers, usize::MAX);
            let read: BTreeSet<u64> = parse_ranges(&text).unwrap().into_iter().flatten().collect();
            proptest::prop_assert_eq!(read, numbers);
        }
    }
}
