// pg and pg-pool (and what stands on them: knex, TypeORM, Sequelize, Drizzle): a client runs one query at a time.
//
// The owner is taken where a query is given to its client, kept on the query, and read from the client's active
// query when bytes are written. The pool runs a waiting callback where another releases its client: it is bound.

bindings.push({
  name: 'pg',
  file: '/pg/lib/client.js',
  bind(Client) {
    const queueOf = (client) => ('_queryQueue' in client ? client._queryQueue : client.queryQueue);
    const activeOf = (client) => ('_activeQuery' in client ? client._activeQuery : client.activeQuery);
    const streams = new WeakMap();
    let calling;
    let owner;
    const claims = (client) => () => {
      // In pipeline mode what is written is not the active query's.
      if (client.pipeline) return undefined;
      const query = activeOf(client);
      if (query === null || query === undefined) return undefined;
      // Written from within the very call that gave it.
      if (owners.get(query) === undefined && calling === client) owners.set(query, owner);
      return owners.get(query);
    };
    return patch(Client.prototype, 'query', (original) => function query(config, values, callback) {
      const queue = on ? quietly(queueOf, this) : undefined;
      if (!Array.isArray(queue) || !this.connection) return Reflect.apply(original, this, arguments);
      const { stream } = this.connection;
      if (streams.get(this) !== stream) {
        streams.set(this, stream);
        claim(stream, claims(this));
      }
      // In strict mode these are nobody else's: what the parameters are called stays as it was given.
      const last = arguments.length - 1;
      if (last > 0) arguments[last] = bound(arguments[last]);
      const outerCalling = calling;
      const outerOwner = owner;
      calling = this;
      owner = current();
      const length = queue.length;
      try {
        return Reflect.apply(original, this, arguments);
      } finally {
        if (queue.length > length) {
          const given = queue[queue.length - 1];
          if (owners.get(given) === undefined) quietly(owners.set, given, owner);
        }
        calling = outerCalling;
        owner = outerOwner;
      }
    });
  },
});

bindings.push({
  name: 'pg-pool',
  file: '/pg-pool/index.js',
  bind: (Pool) => patch(Pool.prototype, 'connect', (original) => function connect(callback) {
    return typeof callback === 'function' ? original.call(this, bound(callback)) : Reflect.apply(original, this, arguments);
  }),
});
