// Bull and BullMQ: a job is handled by a function that the library awaits. What they ask of Redis, submitting
// included, goes by ioredis, which has a binding of its own.

const jobs = {
  wrapped: new WeakSet(),
  delivery: (queue, job) => () => ({ what: DELIVERY.JOB, name: `${queue.toKey('').replace(/:$/, '')}\0${job.id}` }),
};

bindings.push({
  name: 'bullmq',
  file: '/bullmq/dist/cjs/classes/worker.js',
  bind: ({ Worker }) => patch(Worker.prototype, 'callProcessJob', (original) => function callProcessJob(job) {
    return handleAwaited(jobs.delivery(this, job), original, this, arguments);
  }),
});

bindings.push({
  name: 'bull',
  file: '/bull/lib/queue.js',
  bind(Queue) {
    // The handlers are closures: they are wrapped where the queue goes for the next job.
    const wrap = (queue) => {
      for (const [name, handler] of Object.entries(queue.handlers ?? {})) {
        if (jobs.wrapped.has(handler)) continue;
        const replacement = function (job) {
          return handleAwaited(jobs.delivery(queue, job), handler, this, arguments);
        };
        jobs.wrapped.add(replacement);
        queue.handlers[name] = replacement;
      }
    };
    return patch(Queue.prototype, '_processJobOnNextTick', (original) => function () {
      if (on) quietly(wrap, this);
      return Reflect.apply(original, this, arguments);
    });
  },
});
