//! Carries an operator's request to the running gateway, or to the store when none runs. Both do the same.

use std::path::Path;
use std::process::ExitCode;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Control, ControlError, OfflineError, Operator, Request, Response, Why};
use crate::session::By;
use crate::store::master_key::MasterKeyError;
use crate::store::{Kind, embedded};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperateError {
    #[error("there is no store in {0} yet; start the gateway, add a user, or check `store.path`")]
    NoStore(String),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error("this command cannot start: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Outbound(#[from] crate::outbound::SetupError),
    #[error("{0}")]
    Refused(String),
    #[error("the running gateway gave an answer to another question; is it of another version?")]
    Unexpected,
}

/// Whether a store that does not exist yet is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The first account may be added before the first start.
    Make,
    /// Looking must not make anything.
    Refuse,
}

/// A runtime for one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, OperateError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(OperateError::Runtime)
}

/// Carries the request out; what was refused is an error that says why.
pub(super) fn operate(
    config: &Config,
    request: Request,
    missing: Missing,
) -> Result<Response, OperateError> {
    match runtime()?.block_on(carry_out(config, request, missing))? {
        Response::Refused { why, message } => Err(OperateError::Refused(match why {
            Why::Unavailable => format!("the store cannot do it now: {message}"),
            Why::Malformed | Why::Taken | Why::Unknown => message,
        })),
        response => Ok(response),
    }
}

async fn carry_out(
    config: &Config,
    request: Request,
    missing: Missing,
) -> Result<Response, OperateError> {
    let folder: &Path = &config.store.path;
    if let Control::Running(client) = Control::connect(folder).await? {
        return Ok(client.execute(&request).await?);
    }
    let embedded = matches!(config.store.kind, Kind::Embedded);
    if embedded && missing == Missing::Refuse && !folder.join(embedded::FILE_NAME).exists() {
        return Err(OperateError::NoStore(folder.display().to_string()));
    }
    let master = match &config.store.master {
        Some(master) => master.clone(),
        None => crate::store::master_key(folder)?,
    };
    let operator = Operator::offline(
        &config.store.kind,
        folder,
        &master,
        &config.store.previous,
        config.session.clone(),
        Clock::System,
    )
    .await?;
    Ok(operator.execute(request, By::CommandLine).await)
}

/// The exit code and the words for a request that was not carried out.
pub(super) fn not_done(error: &OperateError) -> ExitCode {
    super::failed(&error.to_string())
}
