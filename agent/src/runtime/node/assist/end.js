// Installs, or wakes what an earlier agent installed.

function install(nonce) {
  patchSockets();
  patchHttp();
  for (let i = 0; i < bindings.length; i++) {
    const { file, bind } = bindings[i];
    if (file === undefined && quietly(bind)) active |= 1 << i;
  }
  quietly(bindAll);
  // A module that is loaded later is looked at when the next connection is made.
  patch(Module, '_load', (original) => function _load() {
    dirty = true;
    return Reflect.apply(original, this, arguments);
  });
  announce(nonce);
  const registry = {
    version: VERSION,
    area,
    announce(nonce) {
      announce(nonce);
    },
    undo() {
      undo();
      delete process[REGISTRY];
    },
    get numbers() {
      return next;
    },
    get sockets() {
      return sockets;
    },
  };
  Object.defineProperty(process, REGISTRY, { value: registry, configurable: true, writable: true });
}

const existing = process[REGISTRY];
if (existing?.version === VERSION) {
  existing.announce(NONCE);
} else {
  if (existing) existing.undo();
  install(NONCE);
}
