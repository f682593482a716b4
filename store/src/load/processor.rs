//! What processes take.

/// Seconds of processor time that a process has used, user and system, to a hundredth.
pub fn used(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    used_in(&stat).map(|(_, seconds)| seconds)
}

/// Name and processor time of a line of `/proc/…/stat`, of a process or a thread; its times are hundredths of a second.
pub fn used_in(stat: &str) -> Option<(&str, f64)> {
    // the name may hold anything
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let ticks = |index: usize| fields.split(' ').nth(index)?.parse::<f64>().ok();
    Some((name, (ticks(11)? + ticks(12)?) / 100.0))
}

/// Bytes of memory that a process has resident.
pub fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        assert!(used(std::process::id()).is_some_and(|seconds| seconds < 1e6));
        assert!(resident(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!((used(u32::MAX), resident(u32::MAX)), (None, None));
    }
}
