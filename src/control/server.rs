//! The gateway's end of the control socket. Garbage gets an answer, a caller that stalls is let go, nothing panics.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::socket::ShortPath;
use super::{Control, ControlError, MAX_REQUEST, Operator, Request, Response, SOCKET_NAME, Why};
use crate::door;
use crate::session::By;
use crate::store::BackupStream;

/// How long a caller may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the taker of a backup may take for each piece: its disk may be slow.
const BACKUP_PATIENCE: Duration = Duration::from_secs(60);
/// Most callers at once.
const AT_ONCE: usize = 16;

/// Listens in `folder` until `shutdown`; then the socket is removed. A socket that a gateway which is gone left there is
/// replaced; one that somebody listens at is another node's, and this one must not take its place.
pub async fn start(
    folder: &Path,
    operator: Arc<Operator>,
    shutdown: CancellationToken,
) -> Result<(), ControlError> {
    let path = folder.join(SOCKET_NAME);
    if let Control::Running(_) = Control::connect(folder).await? {
        return Err(ControlError::Taken {
            folder: folder.display().to_string(),
        });
    }
    let listener = listen(folder, &path).map_err(|source| ControlError::Socket {
        path: path.display().to_string(),
        source,
    })?;
    tokio::spawn(accept(listener, path, operator, shutdown));
    Ok(())
}

/// Bound under another name, made private, and only then put in its place.
fn listen(folder: &Path, path: &Path) -> std::io::Result<UnixListener> {
    let name = format!(".control-{}", uuid::Uuid::now_v7().simple());
    let half = folder.join(&name);
    let listener = {
        let short = ShortPath::of(folder, &name)?;
        UnixListener::bind(short.as_path())?
    };
    fs::set_permissions(&half, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&half, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })?;
    Ok(listener)
}

async fn accept(
    listener: UnixListener,
    path: PathBuf,
    operator: Arc<Operator>,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    door::each(&listener, &room, &shutdown, |stream, permit| {
        let operator = Arc::clone(&operator);
        tokio::spawn(async move {
            serve(stream, &operator).await;
            drop(permit);
        });
        Ok(())
    })
    .await;
    let _ = fs::remove_file(&path);
}

async fn serve(mut stream: UnixStream, operator: &Operator) {
    let mut line = Vec::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(MAX_REQUEST));
    let read = tokio::time::timeout(PATIENCE, reading.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(length)) if length > 0) {
        return;
    }
    let answer = match serde_json::from_slice(&line) {
        Ok(Request::StoreBackup) if line.ends_with(b"\n") => match operator.backup() {
            Ok((pieces, turn)) => {
                stream_backup(&mut writing, pieces).await;
                drop(turn);
                return;
            }
            Err(refusal) => refusal,
        },
        Ok(request) if line.ends_with(b"\n") => operator.execute(request, By::CommandLine).await,
        Ok(_) => malformed("it does not end with a line feed".to_owned()),
        Err(error) => malformed(error.to_string()),
    };
    let _ = tokio::time::timeout(PATIENCE, async {
        write_line(&mut writing, &answer).await?;
        writing.shutdown().await
    })
    .await;
}

async fn write_line(
    writing: &mut (impl AsyncWrite + Unpin),
    answer: &Response,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

/// A backup that fails ends early, which its reader notices: it lacks its end.
async fn stream_backup(writing: &mut (impl AsyncWrite + Unpin), mut pieces: BackupStream) {
    let given = tokio::time::timeout(PATIENCE, write_line(writing, &Response::Backup)).await;
    if !matches!(given, Ok(Ok(()))) {
        return;
    }
    while let Some(piece) = pieces.recv().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                tracing::warn!(%error, "a backup was cut short: the store could not be read to the end");
                return;
            }
        };
        let taken = tokio::time::timeout(BACKUP_PATIENCE, writing.write_all(&piece)).await;
        if !matches!(taken, Ok(Ok(()))) {
            tracing::warn!("a backup was cut short: whoever asked for it does not take it");
            return;
        }
    }
    let _ = tokio::time::timeout(PATIENCE, writing.shutdown()).await;
}

fn malformed(reason: String) -> Response {
    Response::Refused {
        why: Why::Malformed,
        message: format!("this is no request: {reason}"),
    }
}
