// Starts the app for the tests, with a second listener by which they look at it and break it.
//
//   node control.mjs PORT CONTROL_PORT     secrets and the client of the token endpoint come from the environment
//
//   GET  /state          what happened so far
//   POST /set            {clock, accessTtl, mode, hold, down}: see below
//   POST /release        lets held refresh calls go on
//   POST /forget         empties the list of requests

import { createServer } from 'node:http';
import { tutorial } from './app.mjs';

const [port, controlPort] = process.argv.slice(2).map(Number);
const env = process.env;
const app = tutorial({
  issuer: 'https://app.test',
  audience: 'app',
  accessSecret: env.ACCESS_SECRET,
  refreshSecret: env.REFRESH_SECRET,
  client: { id: 'gateway', secret: env.CLIENT_SECRET },
});

const state = { requests: [], refreshes: [], reuses: 0 };
// clock: seconds ahead. mode: what the refresh endpoint does instead of its work: a status (with `headers`), "hang" (no
// answer); or after it: "lost" (breaks the connection), "late" (holds the answer), "bare" (an answer without cookies).
// hold: waits before the work.
// down: does not listen.
const knobs = { clock: 0, mode: null, hold: false, headers: {} };
let waiting = [];
const held = () => new Promise((resolve) => waiting.push(resolve));

app.clock = () => Math.floor(Date.now() / 1000) + knobs.clock;
app.on = async (event, { request, response, path, text, user, token }) => {
  if (event === 'reuse') state.reuses += 1;
  if (event === 'request') state.requests.push({ method: request.method, path: request.url, headers: request.headers, raw: request.rawHeaders, text, user });
  if (event === 'refresh') {
    state.refreshes.push({ token: token ?? null, headers: request.headers });
    if (knobs.hold) await held();
    if (typeof knobs.mode === 'number') {
      response.writeHead(knobs.mode, { 'content-type': 'application/json', ...knobs.headers }).end('{"error":"broken"}');
      return true;
    }
    if (knobs.mode === 'hang') return true;
  }
  if (event === 'rotated') {
    if (knobs.mode === 'lost') return response.socket.destroy(), true;
    if (knobs.mode === 'late') await held();
    if (knobs.mode === 'bare') return response.writeHead(200).end(), true;
  }
  return false;
};

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  if (request.url === '/set') {
    const { accessTtl, ...rest } = JSON.parse(text);
    Object.assign(knobs, rest);
    if (rest.down === true) {
      app.server.close();
      app.server.closeAllConnections();
    }
    if (rest.down === false) await new Promise((resolve) => app.server.listen(port, '127.0.0.1', resolve));
    if (accessTtl) app.ttl.access = accessTtl;
  }
  if (request.url === '/release') {
    waiting.forEach((resolve) => resolve());
    waiting = [];
  }
  if (request.url === '/forget') Object.assign(state, { requests: [], refreshes: [] });
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ ...state, waiting: waiting.length, ended: [...app.families.values()].filter((family) => family.ended).length }));
}).listen(controlPort, '127.0.0.1');
app.server.listen(port, '127.0.0.1', () => console.log(`listening on ${port}`));
