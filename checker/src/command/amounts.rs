//! Durations and sizes as they are written on the command line.

use std::time::Duration;

/// A duration: a whole number and `ms`, `s` or `m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| "too long".to_owned()),
        _ => Err("expected a number with ms, s or m".to_owned()),
    }
}

/// A size: a whole number of bytes, or with `KiB`, `MiB` or `GiB`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("expected a number of bytes, or with KiB, MiB or GiB".to_owned()),
    };
    usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "too large".to_owned())
}

fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| "expected a whole number first".to_owned())?;
    Ok((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("5").is_err() && duration("s").is_err());
        assert_eq!(bytes("3MiB"), Ok(3 << 20));
        assert_eq!(bytes("77"), Ok(77));
        assert!(bytes("1TB").is_err() && bytes("99999999999GiB").is_err());
    }
}
