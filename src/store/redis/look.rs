//! What the server at the other end is, for `vestibule check --online`. Must not write anything.

use std::sync::Arc;
use std::time::Duration;

use redis::FromRedisValue as _;

use super::link::{Link, RIGHTS};
use super::names::PROBE;
use super::wire::Dialer;
use super::{Look, Settings, Told};
use crate::store::StoreError;

/// For a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects, reads one name, and asks.
pub async fn look(settings: Settings) -> Result<Look, StoreError> {
    let link = Link::start(Arc::new(Dialer::new(settings)?));
    link.connected(PATIENCE).await?;
    if let Err(error) = link.send(redis::cmd("EXISTS").arg(PROBE)).await {
        return match error {
            StoreError::Unavailable(reason) if reason.contains(RIGHTS) => Ok(Look::Denied(reason)),
            error => Err(error),
        };
    }
    // Of a cluster, one node stands for all.
    let answer = link.send_beside(&redis::cmd("INFO"), "vestibule").await;
    let text = answer
        .ok()
        .and_then(|value| String::from_redis_value(value).ok());
    Ok(text.map_or(Look::Silent, |text| Look::Told(read(&text))))
}

fn read(info: &str) -> Told {
    let field = |name: &str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    let server = match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "a server that does not say which".to_owned(),
    };
    Told {
        server,
        append_only: field("aof_enabled").map(|enabled| enabled == "1"),
        eviction: field("maxmemory_policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        let found = read(info);
        assert_eq!(found.server, "Redis 7.0.15");
        assert_eq!(found.append_only, Some(true));
        assert_eq!(found.eviction.as_deref(), Some("noeviction"));
        assert_eq!(
            read("valkey_version:8.1\nredis_version:7.2").server,
            "Valkey 8.1"
        );
        assert_eq!(read("").append_only, None);
    }
}
