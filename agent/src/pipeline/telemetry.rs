//! Requests that carry telemetry into a process: no calls, so that no spans are made of spans, but requests
//! all the same. What the process calls meanwhile may be made for one, and is nobody else's. And processes that send
//! spans of their own: they are left to their SDK.

use super::Stages;
use crate::call::{ProcessId, SocketId};

impl Stages {
    /// A process was seen to send spans of its own. With the agent's beside them everything would be there twice.
    pub(super) fn sends_spans(&mut self, process: ProcessId) {
        if self.selection.sends_spans(process) {
            self.process_dismissed(process);
        }
    }

    /// One began.
    pub(super) fn telemetry_began(
        &mut self,
        process: ProcessId,
        cookie: u64,
        exchange: u64,
        at_ns: u64,
    ) {
        self.telemetry.insert(cookie, exchange);
        self.engine.opaque_inbound(process, SocketId(cookie), true, at_ns);
    }

    /// An exchange that is no call is over, or nothing will tell of its end. Those that were begun before
    /// another one on their connection end with that.
    pub(super) fn telemetry_over(&mut self, cookie: u64, exchange: u64, at_ns: u64) {
        if self.telemetry.get(&cookie) != Some(&exchange) {
            return;
        }
        self.telemetry.remove(&cookie);
        if let Some(connection) = self.connections.get(cookie) {
            self.engine.opaque_inbound(connection.process, SocketId(cookie), false, at_ns);
        }
    }
}
