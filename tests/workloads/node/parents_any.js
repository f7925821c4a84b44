// The calls of calls.js behind any framework: FRAMEWORK is http, express, fastify, koa or nest.
//
// /each/:id makes the calls one after the other, /together/:id all at once, /stream/:id answers in pieces with calls
// between them. Environment: PORT, FRAMEWORK, and that of calls.js.
'use strict';

const { each, together, between } = require('./calls.js');

const { env } = process;
const port = Number(env.PORT);
const kinds = { each, together };

const frameworks = {
  http() {
    const http = require('node:http');
    const server = http.createServer(async (req, res) => {
      const [, kind, id] = req.url.split('/');
      if (kind === 'stream') {
        await between(Number(id), (name) => res.write(name));
        return res.end();
      }
      await kinds[kind]?.(Number(id));
      res.end('ok');
    });
    server.listen(port, '127.0.0.1');
  },
  express() {
    const app = require('express')();
    app.get('/health', (req, res) => res.send('ok'));
    app.get('/stream/:id', async (req, res) => {
      await between(Number(req.params.id), (name) => res.write(name));
      res.end();
    });
    app.get('/:kind/:id', async (req, res) => {
      await kinds[req.params.kind](Number(req.params.id));
      res.send('ok');
    });
    app.listen(port, '127.0.0.1');
  },
  fastify() {
    const app = require('fastify')();
    app.get('/health', async () => 'ok');
    app.get('/:kind/:id', async (request) => {
      await kinds[request.params.kind](Number(request.params.id));
      return 'ok';
    });
    app.listen({ port, host: '127.0.0.1' });
  },
  koa() {
    const Koa = require('koa');
    const app = new (Koa.default ?? Koa)();
    app.use(async (ctx, next) => {
      await next();
      ctx.body = 'ok';
    });
    app.use(async (ctx) => {
      const [, kind, id] = ctx.path.split('/');
      await kinds[kind]?.(Number(id));
    });
    app.listen(port, '127.0.0.1');
  },
  async nest() {
    require('reflect-metadata');
    const { Controller, Get, Module, Param } = require('@nestjs/common');
    const { NestFactory } = require('@nestjs/core');
    class Calls {
      health() {
        return 'ok';
      }
      async any(kind, id) {
        await kinds[kind](Number(id));
        return 'ok';
      }
    }
    const route = (name, path) => Get(path)(Calls.prototype, name, Object.getOwnPropertyDescriptor(Calls.prototype, name));
    route('health', '/health');
    route('any', '/:kind/:id');
    Param('kind')(Calls.prototype, 'any', 0);
    Param('id')(Calls.prototype, 'any', 1);
    Controller()(Calls);
    class Root {}
    Module({ controllers: [Calls] })(Root);
    const app = await NestFactory.create(Root, { logger: false });
    await app.listen(port, '127.0.0.1');
  },
};

frameworks[env.FRAMEWORK]();
