// amqplib: a channel's frames go through a stream of its own, and those of all channels are joined later.
//
// Each frame is an object from where it is made until the socket is given it: what is put into a channel's stream
// within a call is the caller's. A call that waits for the one before it is its caller's too. A consumer's callback
// is called with one delivery each time: the channel and its delivery tag name it.

/** Whose what is put into a channel's stream now is; undefined: nobody says. */
let framed;

bindings.push({
  name: 'amqplib',
  file: '/amqplib/lib/connection.js',
  bind({ Connection }) {
    const { prototype } = Connection ?? {};
    const names = ['sendMethod', 'sendMessage', 'sendContent'];
    if (!names.every((name) => typeof prototype?.[name] === 'function')) return false;
    const watched = new WeakSet();
    const claims = (chunk) => owners.get(chunk);

    const watch = (connection, number) => {
      const buffer = connection.channels?.[number]?.buffer;
      // The connection's own channel writes to the socket itself.
      if (!buffer || buffer === connection.stream || watched.has(buffer)) return;
      watched.add(buffer);
      claim(connection.stream, claims);
      const { write } = buffer;
      const value = function (chunk) {
        if (on && framed !== undefined && Buffer.isBuffer(chunk)) quietly(owners.set, chunk, framed);
        return Reflect.apply(write, this, arguments);
      };
      // The stream is the library's own, and gone with its channel.
      Object.defineProperty(buffer, 'write', { value, writable: true, configurable: true, enumerable: false });
    };

    return names.every((name) => patch(prototype, name, (original) => function (channel, method, fields) {
      if (!on) return Reflect.apply(original, this, arguments);
      quietly(watch, this, channel);
      const outer = framed;
      framed = owners.get(fields) ?? current();
      try {
        return Reflect.apply(original, this, arguments);
      } finally {
        framed = outer;
      }
    }));
  },
});

bindings.push({
  name: 'amqplib-channel',
  file: '/amqplib/lib/channel.js',
  bind({ Channel, BaseChannel }) {
    if (typeof Channel?.prototype.sendOrEnqueue !== 'function' || typeof BaseChannel?.prototype.dispatchMessage !== 'function') return false;
    patch(Channel.prototype, 'sendOrEnqueue', (original) => function sendOrEnqueue(method, fields, reply) {
      if (!on) return Reflect.apply(original, this, arguments);
      if (fields !== null && typeof fields === 'object' && owners.get(fields) === undefined) quietly(owners.set, fields, current());
      return original.call(this, method, fields, bound(reply));
    });
    patch(Channel.prototype, 'pushConfirmCallback', (original) => function pushConfirmCallback(callback) {
      return original.call(this, bound(callback));
    });
    return patch(BaseChannel.prototype, 'dispatchMessage', (original) => function dispatchMessage(fields, message) {
      // A cancellation comes without a message.
      if (message === null) return Reflect.apply(original, this, arguments);
      const { connection, ch } = this;
      const delivery = () => ({ what: DELIVERY.AMQP, socket: connection.stream, one: fields.deliveryTag, two: ch });
      return handle(delivery, original, this, arguments);
    });
  },
});
