//! The command line's end of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::socket::ShortPath;
use super::{ControlError, MAX_ANSWER, Request, Response, SOCKET_NAME};

/// Ending very many sessions takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether a gateway runs on a store.
pub enum Control {
    /// It does, and listens.
    Running(Client),
    /// It does not: the store may be opened.
    NotRunning,
}

impl Control {
    /// Looks for the gateway that runs on the store in `folder`.
    pub async fn connect(folder: &Path) -> Result<Self, ControlError> {
        let path = folder.join(SOCKET_NAME);
        let failed = |source| ControlError::Socket {
            path: path.display().to_string(),
            source,
        };
        let short = match ShortPath::of(folder, SOCKET_NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Control::NotRunning);
            }
            short => short.map_err(failed)?,
        };
        match UnixStream::connect(short.as_path()).await {
            Ok(stream) => Ok(Control::Running(Client {
                stream,
                path: path.display().to_string(),
            })),
            // No file, or one that a gateway left that was killed.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(Control::NotRunning)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// A connection to a running gateway, for one request.
pub struct Client {
    stream: UnixStream,
    path: String,
}

impl Client {
    /// Asks, and waits for the answer.
    pub async fn execute(self, request: &Request) -> Result<Response, ControlError> {
        let Client { mut stream, path } = self;
        let exchange = async {
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            let failed = |source| ControlError::Socket {
                path: path.clone(),
                source,
            };
            stream.write_all(&line).await.map_err(failed)?;
            let mut answer = Vec::new();
            BufReader::new((&mut stream).take(MAX_ANSWER))
                .read_until(b'\n', &mut answer)
                .await
                .map_err(failed)?;
            Ok(serde_json::from_slice(&answer)?)
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or(Err(ControlError::Timeout))
    }
}

/// What a running gateway answers to the wish for a backup.
pub enum Backup {
    /// Its bytes, read with a timeout; only the end that they carry themselves makes them whole.
    Bytes(std::os::unix::net::UnixStream),
    /// It does not give one.
    Answer(Response),
}

/// Longest line in front of a backup: a refusal.
const MAX_LINE: usize = 64 * 1024;

impl Client {
    /// Asks for a backup.
    pub async fn backup(self) -> Result<Backup, ControlError> {
        let Client { mut stream, path } = self;
        let failed = |source| ControlError::Socket {
            path: path.clone(),
            source,
        };
        let exchange = async {
            let mut line = serde_json::to_vec(&Request::StoreBackup)?;
            line.push(b'\n');
            stream.write_all(&line).await.map_err(failed)?;
            // Byte by byte: what follows the line is not to be touched.
            let mut answer = Vec::new();
            while answer.last() != Some(&b'\n') && answer.len() < MAX_LINE {
                match stream.read_u8().await {
                    Ok(byte) => answer.push(byte),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(failed(error)),
                }
            }
            Ok(serde_json::from_slice(&answer)?)
        };
        let answer = tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or(Err(ControlError::Timeout))?;
        if answer != Response::Backup {
            return Ok(Backup::Answer(answer));
        }
        let bytes = stream.into_std().map_err(failed)?;
        bytes.set_nonblocking(false).map_err(failed)?;
        bytes.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Backup::Bytes(bytes))
    }
}
