// undici, and the built-in fetch, which is one: by its own diagnostics channels and its dispatchers.
//
// A request is created where it is dispatched; a pool with a limit of connections queues what was dispatched and
// dispatches it again later, so the first dispatch is remembered with the handler. The owner holds on the
// connection until the next request's head: bodies follow their head.

const handlers = new WeakMap();

function patchDispatch(prototype) {
  return patch(prototype, 'dispatch', (original) => function dispatch(options, handler) {
    if (!on || handler === null || typeof handler !== 'object') return Reflect.apply(original, this, arguments);
    if (!handlers.has(handler)) handlers.set(handler, als.getStore());
    const owner = handlers.get(handler);
    if (owner === als.getStore()) return Reflect.apply(original, this, arguments);
    return als.run(owner, Reflect.apply, original, this, arguments);
  });
}

bindings.push({
  name: 'undici',
  bind() {
    const channels = require('diagnostics_channel');
    const created = ({ request }) => {
      if (on && request && owners.get(request) === undefined) owners.set(request, current());
    };
    const sends = ({ request, socket }) => {
      if (!on) return;
      const owner = owners.get(request);
      claim(socket, () => owner);
    };
    for (const [name, listener] of [['undici:request:create', created], ['undici:client:sendHeaders', sends]]) {
      const safe = (message) => void quietly(listener, message);
      const channel = channels.channel(name);
      channel.subscribe(safe);
      undos.push(() => channel.unsubscribe(safe));
      // A channel that nobody holds may be collected with its subscribers.
      kept.push(channel);
    }
    quietly(() => {
      // Not loaded before the first fetch; then pools with a limit are the application's own, and bound as modules.
      let at = globalThis[Symbol.for('undici.globalDispatcher.1')];
      while (at && at !== Object.prototype) {
        if (Object.hasOwn(at, 'dispatch') && Object.hasOwn(at, 'destroy')) patchDispatch(at);
        at = Object.getPrototypeOf(at);
      }
    });
    return true;
  },
});
const kept = [];

bindings.push({
  name: 'undici-pool',
  file: '/undici/lib/dispatcher/dispatcher-base.js',
  bind: (DispatcherBase) => patchDispatch(DispatcherBase.prototype),
});
