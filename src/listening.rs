//! Why an address cannot be listened on, in the same words for every listener: where, which key, how to mend it.
//!
//! A leaf: must not open a socket.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// An address that this process was told to listen on and could not take.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (`{key}`): {}", why(source, key))]
pub struct ListenError {
    /// As configured.
    pub address: SocketAddr,
    /// The configuration's key, or the command's option, that names it.
    pub key: &'static str,
    /// What the system said.
    pub source: io::Error,
}

fn why(source: &io::Error, key: &str) -> String {
    match source.kind() {
        ErrorKind::AddrInUse => format!(
            "the address is in use; stop the other program (another gateway?), or choose another address for `{key}`"
        ),
        ErrorKind::PermissionDenied => "permission denied; choose a port above 1023, or give the program the right \
             (`setcap cap_net_bind_service=+ep`, or `AmbientCapabilities=CAP_NET_BIND_SERVICE` in its unit)"
            .to_owned(),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `0.0.0.0` or `[::]` stands for all of its own".to_owned()
        }
        _ => source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_the_address_the_key_and_the_remedy() {
        let check = |kind: ErrorKind, want: &str| {
            let error = ListenError {
                address: "127.0.0.1:9091".parse().unwrap(),
                key: "[admin] listen",
                source: kind.into(),
            };
            let words = error.to_string();
            assert!(
                words.starts_with("cannot listen on 127.0.0.1:9091 (`[admin] listen`): "),
                "{words}"
            );
            assert!(words.contains(want), "{words}");
        };
        check(
            ErrorKind::AddrInUse,
            "is in use; stop the other program (another gateway?), or choose another address for `[admin] listen`",
        );
        check(ErrorKind::PermissionDenied, "setcap");
        check(ErrorKind::AddrNotAvailable, "no such address");
        check(ErrorKind::OutOfMemory, "out of memory");
    }
}
