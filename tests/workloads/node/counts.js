// What this process was asked and what it asked others: the ground truth that the tests compare spans
// with. Kept per route, because paths carry an id each.
'use strict';

const requests = {};
const upstream = {};

function add(table, key, bytes) {
  const entry = (table[key] ??= { requests: 0, bytes: 0 });
  entry.requests += 1;
  entry.bytes += bytes;
}

module.exports = {
  // One answered request; `bytes` is the size of the response's body.
  answered: (route, bytes) => add(requests, route, bytes),
  // One answer read from an upstream; `bytes` likewise.
  asked: (route, bytes) => add(upstream, route, bytes),
  report: () => ({ requests, upstream }),
};
