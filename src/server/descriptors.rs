//! For how many connections this process has file descriptors. Must not open or close any.

/// What the store, the listeners, the admin listener and the log need, at the least.
const RESERVE: usize = 64;

/// As many connections as `wanted`, or as many as leave a quarter of the process's descriptors for everything else: for
/// upstream connections, and for the admin listener, which must answer when it matters most.
pub(super) fn affordable(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(limit) = soft_limit(&limits) else {
        return wanted;
    };
    let affordable = most(limit, wanted);
    if affordable < wanted {
        tracing::warn!(
            descriptors = limit,
            wanted,
            connections = affordable,
            "fewer connections at once than configured: raise the limit of open files (LimitNOFILE=, ulimit -n)"
        );
    }
    affordable
}

fn most(limit: usize, wanted: usize) -> usize {
    wanted
        .min(limit.saturating_sub(RESERVE.max(limit / 4)))
        .max(1)
}

/// The soft limit in Linux' table of limits; `None` where there is no such table, or no limit.
fn soft_limit(table: &str) -> Option<usize> {
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_descriptors_is_kept_back() {
        assert_eq!(most(256, 10_000), 192);
        assert_eq!(most(1024, 10_000), 768);
        assert_eq!(most(100, 10_000), 36);
        assert_eq!(most(10, 10_000), 1);
        assert_eq!(most(65_536, 10_000), 10_000);
    }

    #[test]
    fn the_table_of_limits_is_read() {
        let table = "Limit  Soft Limit  Hard Limit  Units\n\
                     Max processes             95       95        processes\n\
                     Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(table), Some(1024));
        assert_eq!(
            soft_limit("Max open files  unlimited  unlimited  files"),
            None
        );
        assert_eq!(soft_limit(""), None);
    }
}
