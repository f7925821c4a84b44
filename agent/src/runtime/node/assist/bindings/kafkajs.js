// kafkajs: one request is one write, in its caller's context unless it waits for others to be answered.
//
// What waits is run by whoever lets it go: it is bound. The runner calls `eachMessage` with one record and `eachBatch`
// with those of a partition, and awaits it.

bindings.push({
  name: 'kafkajs',
  file: '/kafkajs/src/network/connection.js',
  bind(Connection) {
    const claims = () => current();
    return patch(Connection.prototype, 'send', (original) => function send() {
      if (on) quietly(claim, this.socket, claims, MESSAGE);
      return Reflect.apply(original, this, arguments);
    });
  },
});

bindings.push({
  name: 'kafkajs-queue',
  file: '/kafkajs/src/network/requestQueue/index.js',
  bind: (RequestQueue) => patch(RequestQueue.prototype, 'push', (original) => function push(request) {
    if (on && request) quietly(() => (request.sendRequest = bound(request.sendRequest)));
    return Reflect.apply(original, this, arguments);
  }),
});

bindings.push({
  name: 'kafkajs-runner',
  file: '/kafkajs/src/consumer/runner.js',
  bind(Runner) {
    const wrapped = new WeakSet();
    const records = ({ topic, partition }, first, last) =>
      ({ what: DELIVERY.KAFKA, one: Number(first.offset), two: Number(last.offset), partition, name: topic });
    const givenTo = {
      eachMessage: (given) => records(given, given.message, given.message),
      eachBatch: ({ batch }) => records(batch, batch.messages[0], batch.messages.at(-1)),
    };
    const wrap = (runner, name) => {
      const handler = runner[name];
      if (typeof handler !== 'function' || wrapped.has(handler)) return;
      const replacement = function (given) {
        return handleAwaited(() => givenTo[name](given), handler, this, arguments);
      };
      wrapped.add(replacement);
      runner[name] = replacement;
    };
    const before = (method, name) => patch(Runner.prototype, method, (original) => function () {
      if (on) quietly(wrap, this, name);
      return Reflect.apply(original, this, arguments);
    });
    return before('processEachMessage', 'eachMessage') && before('processEachBatch', 'eachBatch');
  },
});
