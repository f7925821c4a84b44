// ioredis (and what stands on it: Bull, BullMQ): each command is an object from where it is called.
//
// A command is made into bytes for a named socket right before the socket is given them; a pipeline joins those
// of many. What is written is compared with what the commands were made into, by identity or by the sum of
// lengths; anything else is withheld.

bindings.push({
  name: 'ioredis',
  file: '/ioredis/built/Command.js',
  bind(exports) {
    const { prototype } = exports.default ?? exports;
    const partsOf = notes();
    const claims = (parts) => (chunk, encoding) => {
      if (parts.length === 2 && parts[0] === chunk) {
        const owner = parts[1];
        parts.length = 0;
        return owner;
      }
      const made = parts.splice(0);
      const segments = [];
      let sum = 0;
      for (let i = 0; i < made.length; i += 2) {
        const length = lengthOf(made[i]);
        segments.push([length, made[i + 1]]);
        sum += length;
      }
      return made.length > 0 && sum === lengthOf(chunk, encoding) ? segments : undefined;
    };
    const keep = (socket, made, owner) => {
      if (!(socket instanceof net.Socket)) return;
      let parts = partsOf.get(socket);
      if (parts === undefined) {
        parts = [];
        partsOf.set(socket, parts);
        claim(socket, claims(parts));
      }
      if (parts.length >= 2 * MAX_PENDING) parts.length = 0;
      parts.push(made, owner);
    };
    if (typeof prototype.initPromise !== 'function' || typeof prototype.toWritable !== 'function') return false;
    patch(prototype, 'initPromise', (original) => function initPromise() {
      // Run again by a command that is tried again: it stays whose it was.
      tag(this);
      return Reflect.apply(original, this, arguments);
    });
    return patch(prototype, 'toWritable', (original) => function toWritable(socket) {
      const made = Reflect.apply(original, this, arguments);
      if (on) quietly(keep, socket, made, owners.get(this));
      return made;
    });
  },
});
