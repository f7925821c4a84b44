// An Express application that makes every kind of call (calls.js), in the name of the request that asked for it.
//
// /each/:id makes the calls one after the other, /together/:id all at once, /stream/:id answers in pieces with
// calls between them, /body/:id makes them when the body has come, by callbacks. Environment: PORT, and that of
// calls.js.
'use strict';

const express = require('express');
const { names, each, together, between } = require('./calls.js');

const { env } = process;
const app = express();
app.get('/health', (req, res) => res.send('ok'));
app.get('/calls', (req, res) => res.json(names));
app.get('/each/:id', async (req, res) => {
  await each(Number(req.params.id));
  res.send('ok');
});
app.get('/together/:id', async (req, res) => {
  const id = Number(req.params.id);
  await together(id);
  res.send('ok');
});
app.get('/stream/:id', async (req, res) => {
  const id = Number(req.params.id);
  await between(id, (name) => res.write(name));
  res.end();
});
app.post('/body/:id', (req, res) => {
  req.resume();
  req.on('end', () => {
    each(Number(req.params.id)).then(() => res.send('ok'));
  });
});
app.listen(Number(env.PORT), '127.0.0.1');
