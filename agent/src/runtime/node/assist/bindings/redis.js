// redis (node-redis 4 and later): commands wait in a linked list and are written together, later.
//
// The list's element is whose it was pushed by. What the client writes between two steps of the iterator over the
// commands belongs to the element that was taken out last.

let lastTaken;

bindings.push({
  name: 'redis-list',
  file: '/@redis/client/dist/lib/client/linked-list.js',
  bind(exports) {
    const { prototype } = exports.DoublyLinkedList ?? {};
    if (!prototype) return false;
    const tagged = (original) => function (value) {
      if (on && value !== null && typeof value === 'object' && owners.get(value) === undefined) {
        owners.set(value, current());
      }
      return Reflect.apply(original, this, arguments);
    };
    patch(prototype, 'push', tagged);
    patch(prototype, 'unshift', tagged);
    return patch(prototype, 'shift', (original) => function () {
      return (lastTaken = Reflect.apply(original, this, arguments));
    });
  },
});

bindings.push({
  name: 'redis',
  file: '/@redis/client/dist/lib/client/commands-queue.js',
  bind(exports) {
    const { prototype } = exports.default ?? {};
    if (!prototype) return false;
    return patch(prototype, 'commandsToWrite', (original) => function () {
      const inner = Reflect.apply(original, this, arguments);
      if (!on) return inner;
      const step = (name, value) => {
        forced = undefined;
        lastTaken = undefined;
        const result = inner[name](value);
        if (!result.done) forced = owners.get(lastTaken);
        lastTaken = undefined;
        return result;
      };
      return {
        next: (value) => step('next', value),
        return: (value) => step('return', value),
        throw: (value) => step('throw', value),
        [Symbol.iterator]() {
          return this;
        },
      };
    });
  },
});
