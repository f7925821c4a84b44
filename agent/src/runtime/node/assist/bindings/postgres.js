// postgres (postgres.js 3), as a CommonJS module: a query is an object from where it is made, and is executed
// when it is awaited, on a connection that gathers the bytes of several.
//
// Its constructor's `this.state = null` takes the owner, `q.state = backend` right before its bytes are made says
// on which connection. The connection's socket is in closures alone: it is known from the first statement name
// that is written on it, since a name has a random part of the connection's own. At a write the messages are
// walked, and each group (up to Sync or Flush) must be what the next executed query would send: its text in a
// Query, its statement's name in Parse or Bind. Anything else withholds what is queued on that connection.

bindings.push({
  name: 'postgres',
  file: '/postgres/cjs/src/query.js',
  bind({ Query }) {
    const backends = new WeakMap();
    // Those whose socket is not known yet.
    let strangers = new Set();
    const values = notes();
    // An earlier assist's, which queries of its time still need.
    const earlier = Object.getOwnPropertyDescriptor(Query.prototype, 'state');

    const text = (chunk, at) => chunk.toString('utf8', at, chunk.indexOf(0, at));

    /** The messages of a chunk, or undefined if it is not made of whole ones. */
    const messages = (chunk) => {
      const found = [];
      let at = 0;
      while (at + 5 <= chunk.length) {
        const type = String.fromCharCode(chunk[at]);
        const end = at + 1 + chunk.readUInt32BE(at + 1);
        if (end <= at + 4 || end > chunk.length) return undefined;
        found.push([type, at + 5, end]);
        at = end;
      }
      return at === chunk.length ? found : undefined;
    };

    /** What a group of messages asks: {name} or {string}, by its first message. */
    const asked = (chunk, [type, at]) => {
      if (type === 'Q') return { string: text(chunk, at) };
      if (type === 'P') {
        const name = text(chunk, at);
        return { name, string: text(chunk, at + Buffer.byteLength(name) + 1) };
      }
      if (type === 'B') return { name: text(chunk, chunk.indexOf(0, at) + 1) };
      return undefined;
    };

    const sent = (query, what) => {
      const statement = query?.statement;
      if (!statement || what === undefined) return false;
      if (what.name !== undefined && what.name !== statement.name) return false;
      return what.string === undefined || what.string === statement.string;
    };

    const walk = (backend, chunk) => {
      const list = messages(chunk);
      const { waiting } = backend;
      const segments = [];
      for (const message of list ?? []) {
        const [type, at, end] = message;
        if (type === 'Q' || type === 'P' || type === 'B') {
          const what = asked(chunk, message);
          // Bind follows its own Parse, at once or when the parameters' types are known; else it is the next one's.
          const follows = type === 'B' && backend.parsed && sent(backend.last, what);
          backend.parsed = type === 'P';
          if (!follows) backend.last = waiting.shift();
          if (!sent(backend.last, what)) return withhold(backend);
        }
        segments.push([end - at + 5, owners.get(backend.last)]);
      }
      return list === undefined ? withhold(backend) : segments;
    };

    const withhold = (backend) => {
      backend.waiting.length = 0;
      backend.last = undefined;
      return undefined;
    };

    const accept = (backend) => (chunk) => (Buffer.isBuffer(chunk) ? walk(backend, chunk) : undefined);

    /** A socket that nobody claims: one of the strangers', if a name says so. */
    orphans.push((socket, chunk) => {
      if (strangers.size === 0 || !Buffer.isBuffer(chunk)) return undefined;
      const list = messages(chunk) ?? [];
      for (const message of list) {
        const what = asked(chunk, message);
        if (!what?.name) continue;
        for (const backend of strangers) {
          if (!backend.waiting.some((query) => query.statement?.name === what.name)) continue;
          strangers.delete(backend);
          const claims = accept(backend);
          claim(socket, claims);
          return claims(chunk);
        }
        return undefined;
      }
      return undefined;
    });

    Object.defineProperty(Query.prototype, 'state', {
      configurable: true,
      get() {
        const value = values.get(this);
        return value === undefined ? earlier?.get?.call(this) : value;
      },
      set(value) {
        values.set(this, value);
        if (!on) return;
        quietly(() => {
          if (value === null) {
            if (owners.get(this) === undefined) owners.set(this, current());
            return;
          }
          let backend = backends.get(value);
          if (backend === undefined) {
            backend = { waiting: [], last: undefined, parsed: false };
            backends.set(value, backend);
            strangers.add(backend);
            // Connections that never show a name are not waited for for ever.
            if (strangers.size > 64) strangers.delete(strangers.values().next().value);
          }
          if (backend.waiting.length >= MAX_PENDING) backend.waiting.length = 0;
          backend.waiting.push(this);
        });
      },
    });
    undos.push(() => {
      strangers = new Set();
      // The accessor stays, with what it holds: queries that are under way need it.
    });
    return true;
  },
});
