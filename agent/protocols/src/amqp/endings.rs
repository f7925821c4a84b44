//! How what waits on a channel comes to its end: with the channel, with the connection, or given up.

use super::channel::Unsettled;
use super::connection::{Connection, Out};
use super::event::{End, Refusal};
use crate::exchange::Abandon;

impl<M: Clone + 'static> Connection<M> {
    /// Everything on every channel is over.
    pub(super) fn end_all(&mut self, end: &End, last: &M, out: &mut Out<'_, M>) {
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.end_channel(number, end, last, out);
            self.remove_channel(number);
        }
    }

    /// Everything that waits on a channel is over; the channel stays.
    pub(super) fn end_channel(&mut self, number: u16, end: &End, last: &M, out: &mut Out<'_, M>) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.published = None;
        channel.delivered = None;
        let mut over: Vec<u64> = channel.asked.drain(..).map(|asked| asked.exchange).collect();
        while let Some(publish) = channel.unconfirmed.take_first(u64::MAX) {
            over.push(publish.exchange);
        }
        over.extend(self.take_unsettled(number));
        for exchange in over {
            self.end(exchange, last, end.clone(), out);
        }
    }

    /// What was told of the deliveries that wait on a channel; those that were not are forgotten.
    pub(super) fn take_unsettled(&mut self, number: u16) -> Vec<u64> {
        let mut told = Vec::new();
        let Some(channel) = self.channels.get_mut(&number) else { return told };
        while let Some(unsettled) = channel.unsettled.take_first(u64::MAX) {
            match unsettled {
                Unsettled::Told { exchange } => told.push(exchange),
                Unsettled::Untold { .. } => {
                    self.untold = self.untold.saturating_sub(1);
                    self.tally.untold = self.tally.untold.saturating_add(1);
                }
            }
        }
        told
    }

    pub(super) fn forget_channels(&mut self, reason: Abandon, out: &mut Out<'_, M>) {
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.abandon_channel(number, reason, out);
            self.remove_channel(number);
        }
    }

    /// What waits on a channel will never be known.
    pub(super) fn abandon_channel(&mut self, number: u16, reason: Abandon, out: &mut Out<'_, M>) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let mut given_up: Vec<u64> = channel.asked.drain(..).map(|asked| asked.exchange).collect();
        while let Some(publish) = channel.unconfirmed.take_first(u64::MAX) {
            given_up.push(publish.exchange);
        }
        given_up.extend(self.take_unsettled(number));
        for exchange in given_up {
            self.abandon(exchange, reason, out);
        }
    }

    pub(super) fn remove_channel(&mut self, number: u16) {
        if let Some(channel) = self.channels.remove(&number) {
            self.consumers = self.consumers.saturating_sub(channel.consumers.len());
        }
    }

    /// The broker closes a channel (`Some`) or the connection.
    pub(super) fn refuse(
        &mut self,
        number: Option<u16>,
        code: u16,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let refusal = Refusal { code };
        let end = End::Closed(refusal);
        let Some(number) = number else {
            self.refused = Some(refusal);
            return self.end_all(&end, last, out);
        };
        self.end_channel(number, &end, last, out);
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.refused = Some(refusal);
        }
    }
}
