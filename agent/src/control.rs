//! The control socket: a unix socket that only root may open, on which a running agent answers questions.
//!
//! A question is one line; the answer is one line of JSON, then the connection is closed. Now there is one
//! question, `status`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, unix::SocketAddr};

use crate::books::Status;
use crate::pipeline::StatusRequest;

/// Where the socket is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/wirespan.sock";

/// A question is a word; more is somebody's mistake.
const MAX_QUESTION_BYTES: u64 = 256;
/// An answer is some hundred bytes a process.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// The pipeline answers between two rounds, within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens at `path`. A file that a killed agent left behind is replaced; a running agent's is not.
    ///
    /// # Errors
    /// Another agent answers there, or the socket can't be made.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!("another agent runs: it answers on {}", path.display());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("can't replace {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("can't listen on {}", path.display()))?;
        let control = Self { listener, path: path.to_owned() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("can't restrict {}", path.display()))?;
        Ok(control)
    }

    /// Answers until dropped.
    pub async fn serve(self, pipeline: Sender<StatusRequest>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(answer(stream, peer, pipeline.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    // Out of descriptors, most likely: there is no event to wait for.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may be gone already.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn answer(stream: tokio::net::UnixStream, _: SocketAddr, pipeline: Sender<StatusRequest>) {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut read = tokio::io::BufReader::new(read.take(MAX_QUESTION_BYTES));
    if read.read_line(&mut question).await.is_err() || question.trim() != "status" {
        return;
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    if pipeline.send(sender).is_err() {
        return;
    }
    let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, receiver).await else { return };
    match serde_json::to_vec(&status) {
        // An asker that has left needs no answer.
        Ok(json) => drop(write.write_all(&json).await),
        Err(error) => tracing::error!(%error, "status"),
    }
}

/// Why no status could be had.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers.
    #[error("no agent answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// Only root may ask.
    #[error("only root may ask the agent on {}", .0.display())]
    Denied(PathBuf),
    /// The answer is none.
    #[error("the agent gave no answer: {0}")]
    NoAnswer(String),
}

/// Asks the agent that listens at `path` for its status.
///
/// # Errors
/// [`AskError`].
pub fn ask(path: &Path) -> Result<Status, AskError> {
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(path.to_owned()),
        _ => AskError::NotRunning(path.to_owned()),
    })?;
    let no_answer = |error: io::Error| AskError::NoAnswer(error.to_string());
    stream.set_read_timeout(Some(2 * PATIENCE)).map_err(no_answer)?;
    stream.write_all(b"status\n").map_err(no_answer)?;
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_ANSWER_BYTES).read_line(&mut answer).map_err(no_answer)?;
    serde_json::from_str(&answer).map_err(|error| AskError::NoAnswer(error.to_string()))
}
