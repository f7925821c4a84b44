//! The control socket: a unix socket that only root may open, on which a running agent answers questions.
//!
//! A question is one line: `status`, `explain PID`, `tap JSON`, `top JSON`. The answer is one line of JSON, then the
//! connection is closed; to the last two it is text, for as long as the asker reads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedWriteHalf, SocketAddr};

use crate::books::Status;
use crate::explain::Explanation;
use crate::export::{Tap, TapRequest, TopRequest};
use crate::pipeline::Request;

/// Where the socket is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/wirespan.sock";

/// Askers that wait to be accepted.
const BACKLOG: i32 = 16;
/// A question is a word or a filter; more is somebody's mistake.
const MAX_QUESTION_BYTES: u64 = 4096;
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
    /// Listens at `path`. A socket that a killed agent left behind is replaced; a running agent's is not, and
    /// nothing else ever is.
    ///
    /// # Errors
    /// Another agent answers there, something else is there, or the socket can't be made.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!("another agent runs: it answers on {}", path.display());
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)
                .with_context(|| format!("can't replace {}", path.display()))?,
            Ok(_) => anyhow::bail!("{} is there already, and is no socket", path.display()),
            Err(_) => {}
        }
        let listener = bind(path).with_context(|| format!("can't listen on {}", path.display()))?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned() })
    }

    /// Answers until dropped.
    pub async fn serve(self, pipeline: Sender<Request>) {
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

/// A socket that nobody but its owner may open, from the moment when it has a name: its file gets the mode
/// that the socket has (`unix_bind_bsd` in net/unix/af_unix.c).
fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn answer(stream: tokio::net::UnixStream, _: SocketAddr, pipeline: Sender<Request>) {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut read = tokio::io::BufReader::new(read.take(MAX_QUESTION_BYTES));
    if read.read_line(&mut question).await.is_err() {
        return;
    }
    let (word, rest) = question.trim().split_once(' ').unwrap_or((question.trim(), ""));
    let json = match word {
        "status" => answered(&pipeline, Request::Status).await,
        "explain" => {
            let Ok(pid) = rest.parse() else { return };
            answered(&pipeline, |asker| Request::Explain(pid, asker)).await
        }
        "tap" => {
            let Ok(request) = serde_json::from_str(rest) else { return };
            let Some(tap) = opened(&pipeline, &mut write).await else { return };
            return tap.run(request, read.into_inner().into_inner(), write).await;
        }
        "top" => {
            let Ok(request) = serde_json::from_str(rest) else { return };
            let Some(tap) = opened(&pipeline, &mut write).await else { return };
            return tap.top(request, read.into_inner().into_inner(), write).await;
        }
        _ => return,
    };
    if let Some(json) = json {
        // An asker that has left needs no answer.
        drop(write.write_all(&json).await);
    }
}

/// A tap; `None`: the asker was told that there are too many.
async fn opened(pipeline: &Sender<Request>, write: &mut OwnedWriteHalf) -> Option<Tap> {
    let tap = asked(pipeline, Request::Tap).await.flatten();
    if tap.is_none() {
        // An asker that has left need not be told.
        drop(write.write_all(b"too many look already\n").await);
    }
    tap
}

/// What the pipeline answers.
async fn asked<T>(
    pipeline: &Sender<Request>,
    request: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    pipeline.send(request(sender)).ok()?;
    tokio::time::timeout(PATIENCE, receiver).await.ok()?.ok()
}

async fn answered<T: serde::Serialize>(
    pipeline: &Sender<Request>,
    request: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Request,
) -> Option<Vec<u8>> {
    match serde_json::to_vec(&asked(pipeline, request).await?) {
        Ok(json) => Some(json),
        Err(error) => {
            tracing::error!(%error, "an answer that is no JSON");
            None
        }
    }
}

/// Why there is no answer.
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
    question(path, "status")
}

/// Asks the agent that listens at `path` about a process.
///
/// # Errors
/// [`AskError`].
pub fn explain(path: &Path, pid: i32) -> Result<Explanation, AskError> {
    question(path, &format!("explain {pid}"))
}

/// Has the agent that listens at `path` write traces, for as long as they are read.
///
/// # Errors
/// [`AskError`].
pub fn tap(path: &Path, request: &TapRequest) -> Result<UnixStream, AskError> {
    watch(path, "tap", request)
}

/// Has the agent that listens at `path` write what takes the time, for as long as it is read.
///
/// # Errors
/// [`AskError`].
pub fn top(path: &Path, request: &TopRequest) -> Result<UnixStream, AskError> {
    watch(path, "top", request)
}

fn watch(path: &Path, word: &str, request: &impl serde::Serialize) -> Result<UnixStream, AskError> {
    let mut stream = connect(path)?;
    let no_answer = |error: io::Error| AskError::NoAnswer(error.to_string());
    let json = serde_json::to_string(request).map_err(|error| no_answer(error.into()))?;
    stream.write_all(format!("{word} {json}\n").as_bytes()).map_err(no_answer)?;
    Ok(stream)
}

fn connect(path: &Path) -> Result<UnixStream, AskError> {
    UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(path.to_owned()),
        _ => AskError::NotRunning(path.to_owned()),
    })
}

fn question<T: serde::de::DeserializeOwned>(path: &Path, question: &str) -> Result<T, AskError> {
    let mut stream = connect(path)?;
    let no_answer = |error: io::Error| AskError::NoAnswer(error.to_string());
    stream.set_read_timeout(Some(2 * PATIENCE)).map_err(no_answer)?;
    stream.write_all(format!("{question}\n").as_bytes()).map_err(no_answer)?;
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_ANSWER_BYTES).read_line(&mut answer).map_err(no_answer)?;
    serde_json::from_str(&answer).map_err(|error| AskError::NoAnswer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = Control::listen(&path).unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();

        // What a killed agent leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let control = Control::listen(&path).unwrap();
        let error = Control::listen(&path).unwrap_err();
        assert!(error.to_string().contains("another agent runs"), "{error}");
        drop(control);
        assert!(!path.exists());

        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert!(Control::listen(&path).is_err());
        assert!(path.is_symlink());
    }

    /// Not only after it was changed: in between anybody could connect.
    #[test]
    fn the_sockets_file_is_made_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let _listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn who_asks_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (sender, questions) = std::sync::mpsc::channel::<Request>();
        let server = tokio::spawn(Control::listen(&path).unwrap().serve(sender));
        let asker = tokio::task::spawn_blocking(move || ask(&path));
        let answer = Status { spans: 7, ..Status::default() };
        let pipeline = std::thread::spawn(move || match questions.recv().unwrap() {
            Request::Status(asker) => asker.send(answer).unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(asker.await.unwrap().unwrap().spans, 7);
        pipeline.join().unwrap();
        server.abort();
    }
}
