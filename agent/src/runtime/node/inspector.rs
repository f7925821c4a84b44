//! The inspector of a Node.js process, as far as evaluating one script needs it.
//!
//! `GET /json/list` names the target, its WebSocket takes Chrome DevTools Protocol messages
//! (<https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-evaluate>). Everything has a deadline:
//! the port must not stay open because somebody does not answer. It opens nothing; see [`super::inject`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Where Node.js opens it when it is asked by signal.
pub const INSPECTOR_PORT: u16 = 9229;

/// How long any answer may take. A process that is busy answers from within its loop, within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The list has one target in a few hundred bytes.
const MOST_BYTES: u64 = 64 << 10;

/// A session with the process behind an open inspector.
pub(super) struct Session {
    socket: WebSocket<TcpStream>,
    next: u64,
}

impl Session {
    /// Connects in this thread's network namespace.
    ///
    /// # Errors
    /// When nobody answers as an inspector does.
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let path = target(address)?;
        let url = format!("ws://{address}{path}");
        let (socket, _response) = tungstenite::client(url, connect(address)?)
            .map_err(|error| anyhow::anyhow!("the inspector refuses a session: {error}"))?;
        Ok(Self { socket, next: 0 })
    }

    /// Evaluates a script with the console's helpers (`require`) at hand. Returns its value.
    ///
    /// # Errors
    /// When it threw, or nobody answered.
    pub(super) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let id = self.send(expression)?;
        loop {
            let Message::Text(text) = self.socket.read().context("wait for the evaluation")? else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).context("read the answer")?;
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            let thrown = answer.pointer("/result/exceptionDetails");
            if let Some(thrown) = thrown.or_else(|| answer.get("error")) {
                let text = thrown.pointer("/exception/description").unwrap_or(thrown);
                bail!("the script failed: {text}");
            }
            let value = answer.pointer_mut("/result/result/value").map(Value::take);
            return Ok(value.unwrap_or_default());
        }
    }

    /// Has the process close its inspector. It answers nothing any more.
    ///
    /// # Errors
    /// When it could not be told.
    pub(super) fn close(mut self) -> Result<()> {
        self.send("process._debugEnd()")?;
        // Until the process has closed the connection: then the port is closed, or about to be.
        while self.socket.read().is_ok() {}
        Ok(())
    }

    fn send(&mut self, expression: &str) -> Result<u64> {
        self.next += 1;
        let parameters = json!({
            "expression": expression,
            "includeCommandLineAPI": true,
            "returnByValue": true,
            "silent": true,
        });
        let message = json!({
            "id": self.next,
            "method": "Runtime.evaluate",
            "params": parameters,
        });
        self.socket.send(Message::text(message.to_string())).context("ask the inspector")?;
        Ok(self.next)
    }
}

/// Whether an inspector of Node's is there.
pub(super) fn answers(address: SocketAddr) -> bool {
    let browser = ask(address, "/json/version").ok();
    let browser = browser.as_ref().and_then(|version| version.get("Browser")?.as_str());
    browser.is_some_and(|browser| browser.starts_with("node.js/"))
}

/// The path of the process's WebSocket.
fn target(address: SocketAddr) -> Result<String> {
    let list = ask(address, "/json/list").context("ask for the list of targets")?;
    let url = list.pointer("/0/webSocketDebuggerUrl").and_then(Value::as_str);
    let url = url.context("the inspector has no target, or somebody else's session")?;
    let path =
        url.strip_prefix("ws://").and_then(|rest| rest.find('/').map(|at| rest.split_at(at)));
    path.map(|(_, path)| path.to_owned()).context("the target has no address")
}

fn ask(address: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    body(stream.take(MOST_BYTES))
}

/// The body of an answer. The connection stays open behind it: its end is where its JSON is complete.
fn body(mut stream: impl Read) -> Result<Value> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..count).unwrap_or_default());
        let head = memchr::memmem::find(&answer, b"\r\n\r\n");
        let body = head.and_then(|head| answer.get(head + 4..));
        match body.map(serde_json::from_slice) {
            Some(Ok(body)) => return Ok(body),
            Some(Err(error)) if !error.is_eof() => return Err(error.into()),
            _ if count == 0 => bail!("it ends before it is complete"),
            _ => {}
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, PATIENCE).context("connect to the inspector")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
