// Wirespan's assist: what runs inside a Node.js process so that calls are put under the right request.
//
// It is evaluated once in the running process (through the inspector) or loaded by --require, is idempotent,
// fails open, prints nothing, opens nothing, and changes no value that the application sees. It gives each
// inbound request a number (AsyncLocalStorage), takes the owner of a command where a client library accepts it
// (bindings/*.js), and notes in memory of its own which bytes of which connection belong to which request. The
// agent reads that memory from outside; nothing waits for it, and without an agent the notes go nowhere.
//
// The layout of the shared area is agent/src/runtime/node/area.rs, where every field is documented.
'use strict';

const VERSION = 2;
const REGISTRY = Symbol.for('wirespan.assist');
const CAPACITY = 8192; // entries; a power of two
const ENTRY_BYTES = 64;
const HEADER_BYTES = 64;
const KIND = { RANGE: 1, INBOUND: 2, LOCAL: 3, REMOTE: 4, TEXT: 5, HANDLES: 6, HANDLED: 7 };
const DELIVERY = { AMQP: 1, KAFKA: 2, JOB: 3 };
const SYNC = 1 << 8;
const MESSAGE = 1 << 9;
// Every connection's first dispatches, then one in so many, carry a time by which the agent lines up offsets; and
// all of them while an agent that just announced itself begins to listen.
const SYNC_FIRST = 4;
const SYNC_EVERY = 8;
const SETTLES_MS = 3000;
// A connection's ends are told to every agent that announces itself, and every so often, for one that found the
// area by itself.
const INTRODUCE_EVERY = 32;
// Chunks of one connection whose dispatch is awaited. A connection that is stuck for so long is withheld.
const MAX_PENDING = 4096;

const { AsyncLocalStorage } = require('async_hooks');
const net = require('net');
const http = require('http');
const Module = require('module');
const { threadId } = require('worker_threads');

/** Notes on the application's objects that nobody else can see: private fields, in no listing and no copy. */
function notes() {
  class Identity {
    constructor(object) {
      return object;
    }
  }
  return class Note extends Identity {
    #value;
    constructor(object, value) {
      super(object);
      this.#value = value;
    }
    static get(object) {
      return object !== null && typeof object === 'object' && #value in object ? object.#value : undefined;
    }
    static set(object, value) {
      if (#value in object) object.#value = value;
      else new Note(object, value);
    }
  };
}

/** Of a command: the number of the request that gave it, 0 for none. */
const owners = notes();
/** Of an inbound request and its response: its number. */
const served = notes();
/** Of a socket: its State. */
const states = notes();

const als = new AsyncLocalStorage();
let on = true;
// A number is never given twice in a process, by no thread and by no later version of this script.
const FIRST = (threadId % 8192) * 2 ** 40;
let next = FIRST + ((globalThis.process[REGISTRY]?.numbers ?? 0) % 2 ** 40);
let sockets = globalThis.process[REGISTRY]?.sockets ?? 0;
let generation = 0;
let settling;
let mismatches = 0;

// ---- The shared area ----

const area = new ArrayBuffer(HEADER_BYTES + CAPACITY * ENTRY_BYTES);
const words = new Int32Array(area);
const numbers = new Float64Array(area);
const bytes = new Uint8Array(area);
const HEAD = 6;
let head = 0;

function announce(nonce) {
  generation = (generation + 1) | 0;
  clearTimeout(settling);
  settling = setTimeout(() => (settling = undefined), SETTLES_MS);
  settling.unref();
  words[4] = VERSION;
  words[5] = CAPACITY;
  words[7] = threadId;
  words[8] = nonce[0];
  words[9] = nonce[1];
  words[10] = process.pid;
  words[12] = active;
  // 'wirespan-assist\0', last: whoever finds it finds all of it. Written number by number, so that these
  // sixteen bytes are nowhere else in this process.
  const magic = [0x65726977, 0x6e617073, 0x7373612d, 0x00747369];
  for (let i = 0; i < 4; i++) words[i] = magic[i];
}

/** Begins an entry: returns its place in words. The agent knows that one is under way behind the head. */
function begin(kind) {
  const at = (HEADER_BYTES + (head & (CAPACITY - 1)) * ENTRY_BYTES) >> 2;
  words[at + 1] = kind;
  return at;
}

// What is stored in order is seen in order on x86; elsewhere it takes a barrier, which would wait for the entry's
// cold cache line here too.
const IN_ORDER = process.arch === 'x64' || process.arch === 'ia32';

function commit(at) {
  head = (head + 1) | 0;
  words[at] = head;
  if (IN_ORDER) words[HEAD] = head;
  else Atomics.store(words, HEAD, head);
}

/** CLOCK_MONOTONIC in nanoseconds, the clock of the kernel's records; whatever becomes of `process` later. */
const { hrtime } = process;
function now() {
  const time = hrtime();
  return time[0] * 1e9 + time[1];
}

function introduce(kind, id, port, address) {
  const at = begin(kind);
  numbers[(at >> 1) + 1] = id;
  words[at + 4] = port;
  const text = address.split('%', 1)[0];
  const length = Math.min(text.length, 40);
  words[at + 5] = length;
  for (let i = 0; i < length; i++) bytes[(at << 2) + 24 + i] = text.charCodeAt(i);
  commit(at);
}

function range(kind, time, id, start, length, owner, total) {
  const at = begin(kind);
  const place = at >> 1;
  numbers[place + 1] = time;
  numbers[place + 2] = id;
  numbers[place + 3] = start;
  numbers[place + 4] = length;
  numbers[place + 5] = owner;
  numbers[place + 6] = total;
  commit(at);
}

// ---- Connections ----

/** What is known of a connection: one for each handle, since a socket can connect again. */
class State {
  constructor(socket, handle) {
    this.handle = handle;
    this.id = 0;
    this.generation = 0;
    this.uses = 0;
    this.pending = [];
    // What was accepted before it was seen can't be told apart from what comes.
    this.lost = socket.writableLength > 0;
    this.dispatches = 0;
    this.claim = undefined;
    // Each chunk is one whole message, which may ask for several things within it.
    this.flags = 0;
  }
}

function stateOf(socket) {
  const handle = socket._handle ?? null;
  let state = states.get(socket);
  if (state === undefined) {
    state = new State(socket, handle);
    states.set(socket, state);
  } else if (state.handle !== handle) {
    if (state.handle === null) {
      state.handle = handle;
    } else {
      const { claim, flags } = state;
      state = new State(socket, handle);
      state.claim = claim;
      state.flags = flags;
      states.set(socket, state);
    }
  }
  return state;
}

/** Tells of a connection's ends. False: it has no ports, nobody could find it. */
function introduced(socket, state) {
  if (state.generation === generation && ++state.uses % INTRODUCE_EVERY !== 0) return state.id !== 0;
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  if (!localAddress || !remoteAddress || !localPort || !remotePort) return false;
  if (state.generation !== generation) state.dispatches = 0;
  state.generation = generation;
  if (state.id === 0) state.id = FIRST + ++sockets;
  introduce(KIND.LOCAL, state.id, localPort, localAddress);
  introduce(KIND.REMOTE, state.id, remotePort, remoteAddress);
  return true;
}

/** The owner of what is written now by code that says so itself; undefined: nobody says. */
let forced;

/** Whose the chunk is: a number, 0 for nobody's, a list of [length, owner], or undefined for unknown. */
function ownerOf(socket, state, chunk, encoding) {
  if (forced !== undefined) return forced;
  if (state.claim !== undefined) return state.claim(chunk, encoding);
  if (socket._httpMessage) return owners.get(socket._httpMessage);
  for (const orphan of orphans) {
    const owner = orphan(socket, chunk);
    if (owner !== undefined) return owner;
  }
  return undefined;
}

/** Bindings that find out by its bytes that a socket is theirs. */
const orphans = [];

function accepted(socket, chunk, encoding) {
  // A server's responses are nobody's call; what TLS sends are not these bytes.
  if (socket.server || socket.encrypted || chunk === null || chunk === undefined) return;
  const state = stateOf(socket);
  if (state.lost && socket.writableLength === 0) {
    state.lost = false;
    state.pending.length = 0;
  }
  const owner = ownerOf(socket, state, chunk, encoding);
  if (state.lost) return;
  if (state.pending.length >= MAX_PENDING) return void lose(state);
  state.pending.push(chunk, owner);
}

function lose(state) {
  state.lost = true;
  state.pending.length = 0;
  words[13] = ++mismatches;
}

function sameChunk(a, b) {
  if (a === b) return true;
  // A Uint8Array was made a Buffer on the same memory.
  return typeof a === 'object' && typeof b === 'object' && a.buffer !== undefined && a.buffer === b.buffer &&
    a.byteOffset === b.byteOffset && a.byteLength === b.byteLength;
}

function lengthOf(chunk, encoding) {
  if (typeof chunk !== 'string') return chunk.byteLength;
  // What http writes its heads in.
  return encoding === 'latin1' ? chunk.length : Buffer.byteLength(chunk, encoding);
}

/** The chunks go to the kernel now, as bytes from the handle's count on. */
function dispatched(socket, writev, data, encoding) {
  const state = states.get(socket);
  const handle = socket._handle;
  if (state === undefined || socket.connecting || !handle || state.pending.length === 0) return;
  if (state.lost || (state.handle !== handle && stateOf(socket) !== state)) return;
  const { pending } = state;
  const count = writev ? data.length : 1;
  if (pending.length < 2 * count) return lose(state);
  if (count === 1 && pending.length === 2) {
    // Nearly always: one chunk, given and gone.
    const owner = pending.pop();
    const given = pending.pop();
    const chunk = writev ? data[0].chunk : data;
    if (!sameChunk(given, chunk)) return lose(state);
    if (owner === undefined || !introduced(socket, state)) return;
    const length = lengthOf(chunk, writev ? data[0].encoding : encoding);
    const time = syncTime(state, handle);
    if (typeof owner === 'number') {
      range(KIND.RANGE | state.flags | (time > 0 ? SYNC : 0), time, state.id, handle.bytesWritten, length, owner, length);
    } else {
      ranges(state, time, handle.bytesWritten, owner, length);
    }
    return;
  }
  const parts = [];
  let known = false;
  let total = 0;
  for (let i = 0; i < count; i++) {
    const chunk = writev ? data[i].chunk : data;
    if (!sameChunk(pending[2 * i], chunk)) return lose(state);
    const owner = pending[2 * i + 1];
    const length = lengthOf(chunk, writev ? data[i].encoding : encoding);
    total += length;
    known ||= owner !== undefined;
    if (typeof owner !== 'object') parts.push([length, owner]);
    else for (const part of owner) parts.push(part);
  }
  pending.splice(0, 2 * count);
  if (known && introduced(socket, state)) ranges(state, syncTime(state, handle), handle.bytesWritten, parts, total);
}

/** The time, where this dispatch is one to line up by; else 0. */
function syncTime(state, handle) {
  const nth = state.dispatches++;
  const due = settling !== undefined || nth < SYNC_FIRST || nth % SYNC_EVERY === 0;
  return due && handle.writeQueueSize === 0 ? now() : 0;
}

/** Notes [length, owner] parts from `start` on, neighbours of one owner together. */
function ranges(state, time, start, parts, total) {
  let at = start;
  for (let i = 0; i < parts.length; ) {
    const from = at;
    const owner = parts[i][1];
    while (i < parts.length && parts[i][1] === owner) at += parts[i++][0];
    if (owner === undefined || at === from) continue;
    // Only what begins where the dispatch begins is where the kernel was.
    const sync = time > 0 && from === start;
    range(KIND.RANGE | state.flags | (sync ? SYNC : 0), sync ? time : 0, state.id, from, at - from, owner, total);
  }
}

// ---- Patches ----

const undos = [];

/** Replaces a method, until undone. `wrapper` gets the original and returns what takes its place. */
function patch(object, name, wrapper) {
  const own = Object.getOwnPropertyDescriptor(object, name);
  if (own && (!own.writable || !own.configurable)) return false;
  const original = object[name];
  if (typeof original !== 'function') return false;
  const replacement = wrapper(original);
  Object.defineProperty(replacement, 'name', { value: original.name, configurable: true });
  Object.defineProperty(replacement, 'length', { value: original.length, configurable: true });
  const enumerable = own ? own.enumerable : false;
  Object.defineProperty(object, name, { value: replacement, enumerable, writable: true, configurable: true });
  undos.push(() => {
    // Somebody else's wrapper around this one stays, and this one passes everything on.
    if (object[name] !== replacement) return;
    if (own) Object.defineProperty(object, name, own);
    else delete object[name];
  });
  return true;
}

/** What may fail without anybody noticing. */
function quietly(work, a, b, c, d) {
  try {
    return work(a, b, c, d);
  } catch {
    return failed();
  }
}

function failed() {
  words[13] = ++mismatches;
  return undefined;
}

/** The request in whose name this runs: its number, 0: none. */
const current = () => als.getStore() ?? 0;

/** A callback that runs in whose name it was given. */
function bound(callback) {
  if (typeof callback !== 'function' || !on) return callback;
  const owner = als.getStore();
  return function () {
    if (als.getStore() === owner) return Reflect.apply(callback, this, arguments);
    return als.run(owner, Reflect.apply, callback, this, arguments);
  };
}

/** Says who knows the owners of what is written to this socket. `flags`: MESSAGE, if each chunk is one. */
function claim(socket, claims, flags = 0) {
  if (!(socket instanceof net.Socket)) return;
  const state = stateOf(socket);
  state.claim = claims;
  state.flags = flags;
}

function patchSockets() {
  patch(net.Socket.prototype, 'write', (original) => function write(chunk, encoding) {
    // Spelled out where it is run for every write or event: one function that calls many is not compiled well.
    try {
      if (on) accepted(this, chunk, encoding);
    } catch {
      failed();
    }
    return Reflect.apply(original, this, arguments);
  });
  patch(net.Socket.prototype, '_writeGeneric', (original) => function _writeGeneric(writev, data, encoding) {
    try {
      if (on) dispatched(this, writev, data, encoding);
    } catch {
      failed();
    }
    return Reflect.apply(original, this, arguments);
  });
  // A connection outlives the request that happened to open it: what its events cause is not that request's.
  patch(net.Socket.prototype, 'connect', (original) => function connect() {
    if (dirty) quietly(bindAll);
    if (!on || als.getStore() === undefined) return Reflect.apply(original, this, arguments);
    return als.run(undefined, Reflect.apply, original, this, arguments);
  });
}

// ---- Handlers of consumed messages ----

const PIECE = 40;
const MOST_NAME = 1024;

/** Of a delivery: {what, socket, one, two, partition, name}, by the layout of its note. Returns the handler's number. */
function begun({ what, socket, one = 0, two = 0, partition = 0, name = '' }) {
  const text = Buffer.from(name);
  if (text.length > MOST_NAME) return undefined;
  const number = ++next;
  let id = 0;
  if (socket instanceof net.Socket) {
    const state = stateOf(socket);
    if (introduced(socket, state)) id = state.id;
  }
  for (let from = 0; from < text.length; from += PIECE) {
    const at = begin(KIND.TEXT);
    numbers[(at >> 1) + 1] = number;
    words[at + 4] = from;
    words[at + 5] = text.copy(bytes, (at << 2) + 24, from, from + PIECE);
    commit(at);
  }
  const at = begin(KIND.HANDLES);
  const place = at >> 1;
  numbers[place + 1] = now();
  numbers[place + 2] = id;
  numbers[place + 3] = number;
  numbers[place + 4] = one;
  numbers[place + 5] = two;
  words[at + 12] = what;
  words[at + 13] = partition;
  words[at + 14] = text.length;
  commit(at);
  return number;
}

function ended(number) {
  const at = begin(KIND.HANDLED);
  numbers[(at >> 1) + 1] = now();
  numbers[(at >> 1) + 3] = number;
  commit(at);
}

/** Calls a handler with what it is given, in a context of its own. `delivery` says what that is; undefined: nothing. */
function handle(delivery, handler, self, args) {
  const number = on ? quietly(() => begun(delivery())) : undefined;
  return number === undefined ? Reflect.apply(handler, self, args) : als.run(number, Reflect.apply, handler, self, args);
}

/**
 * The same for a library that awaits what the handler returns: that is seen to settle. One that drops it may not be
 * given another promise, which nobody would hear the rejection of.
 */
function handleAwaited(delivery, handler, self, args) {
  const number = on ? quietly(() => begun(delivery())) : undefined;
  if (number === undefined) return Reflect.apply(handler, self, args);
  const over = () => void quietly(ended, number);
  let result;
  try {
    result = als.run(number, Reflect.apply, handler, self, args);
  } catch (error) {
    over();
    throw error;
  }
  // Something else that can be waited for, or has more to it, is not looked into.
  if (typeof result?.then !== 'function') over();
  if (!(result instanceof Promise) || result.constructor !== Promise || Object.keys(result).length > 0) return result;
  return result.then(
    (value) => {
      over();
      return value;
    },
    (error) => {
      over();
      throw error;
    },
  );
}

// ---- http and https ----

function inbound(request, socket) {
  const number = ++next;
  served.set(request, number);
  const state = stateOf(socket);
  if (introduced(socket, state)) range(KIND.INBOUND, now(), state.id, 0, 0, number, 0);
  return number;
}

function patchServer(prototype) {
  patch(prototype, 'emit', (original) => function emit(event, request, response) {
    if (on && (event === 'request' || event === 'checkContinue' || event === 'checkExpectation')) {
      let number;
      try {
        if (request.socket instanceof net.Socket && request.httpVersionMajor === 1 && served.get(request) === undefined) {
          number = inbound(request, request.socket);
        }
      } catch {
        failed();
      }
      if (number !== undefined) return als.run(number, Reflect.apply, original, this, arguments);
    }
    return Reflect.apply(original, this, arguments);
  });
}

/**
 * What a request's streams tell is heard in its name: their events come from the connection's own context. `of` says
 * whose stream it is.
 */
function patchEvents(prototype, of) {
  patch(prototype, 'emit', (original) => function emit(event) {
    // Most of what is told nobody listens to.
    if (on && this._events?.[event] !== undefined) {
      const number = served.get(of(this));
      if (number !== undefined && als.getStore() !== number) return als.run(number, Reflect.apply, original, this, arguments);
    }
    return Reflect.apply(original, this, arguments);
  });
}

/** Whose a command is, or a request that is sent: of who gave it first. */
function tag(request) {
  try {
    if (on && owners.get(request) === undefined) owners.set(request, als.getStore() ?? 0);
  } catch {
    failed();
  }
}

function patchHttp() {
  patchServer(http.Server.prototype);
  quietly(() => patchServer(require('https').Server.prototype));
  patchEvents(http.IncomingMessage.prototype, (request) => request);
  patchEvents(http.ServerResponse.prototype, (response) => response.req);
  patch(http.Agent.prototype, 'addRequest', (original) => function addRequest(request) {
    tag(request);
    return Reflect.apply(original, this, arguments);
  });
  patch(http.ClientRequest.prototype, 'onSocket', (original) => function onSocket() {
    tag(this);
    return Reflect.apply(original, this, arguments);
  });
}

// ---- Bindings ----

/** {name, file: a suffix of the module's path, bind(exports)}; the order gives each its bit. */
const bindings = [];
let active = 0;
let dirty = true;
const looked = new WeakSet();

function bindAll() {
  dirty = false;
  const cache = Module._cache;
  for (const path of Object.keys(cache)) {
    for (let i = 0; i < bindings.length; i++) {
      const { file, bind } = bindings[i];
      if (file === undefined || !path.endsWith(file)) continue;
      const module = cache[path];
      if (!module?.loaded || looked.has(module)) continue;
      looked.add(module);
      if (quietly(bind, module.exports)) words[12] = active |= 1 << i;
    }
  }
}

function undo() {
  on = false;
  while (undos.length > 0) quietly(undos.pop());
  orphans.length = 0;
  clearTimeout(settling);
  als.disable();
  words[0] = 0;
}
