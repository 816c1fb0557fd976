// A real OpenID provider for the end-to-end tests: the certified `oidc-provider` from npm, on loopback.
//
// argv[2] is JSON (see `defaults` below). Prints one line `{"issuer":…,"control":…}` when it serves. Two listeners: the
// provider itself, and a control by which a test makes it slow, broken or forgetful and asks what it was called with.
// Nothing here decides how a gateway should behave. Modules come from the folder VESTIBULE_TEST_NODE (`npm ci`).

import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Storage } from './storage.mjs';

const modules = createRequire(join(process.env.VESTIBULE_TEST_NODE, 'modules.js'));
const load = (name) => import(pathToFileURL(modules.resolve(name)));
const oidc = await load('oidc-provider');
const jose = await load('jose');

const defaults = {
  host: '127.0.0.1', // in the issuer
  tls: undefined, // { cert, key }: files; the provider is then https
  path: '', // of the issuer, for example "/realms/corp"
  clients: [], // metadata as of Dynamic Client Registration
  accounts: {}, // login name -> claims (`sub` is the login name unless it says otherwise)
  refresh: 'always', // or 'offline': only with the scope offline_access
  claimsInIdToken: true, // false: only at the userinfo endpoint, as OpenID Connect has it
  issParameter: true, // RFC 9207
  ttl: {}, // seconds by kind of token
  gateway: undefined, // "127.0.0.1:1234": where https://app.test is, for back-channel logout
};
const settings = { ...defaults, ...JSON.parse(process.argv[2] ?? '{}') };

const seconds = { AccessToken: 3600, IdToken: 3600, RefreshToken: 14 * 86400, Session: 14 * 86400, Grant: 30 * 86400, Interaction: 3600, AuthorizationCode: 60, ClientCredentials: 600 };
const storage = new Storage();
const cookies = `op${process.pid}`; // cookies know no ports, and several providers share a host
let calls = []; // what the provider was asked
let faults = {}; // endpoint -> what goes wrong there
let held = []; // answers that wait until the test lets them go
let keys = [];
let made = 0;

// --- keys --------------------------------------------------------------------------------------------------------------

async function generate(alg) {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  const jwk = await jose.exportJWK(privateKey);
  made += 1;
  return { ...jwk, kid: `${alg.toLowerCase()}-${made}`, use: 'sig', ...(alg === 'RS256' ? {} : { alg }) };
}

const fresh = async () => Promise.all(['RS256', 'ES256', 'ES384', 'EdDSA'].map(generate));
// The published key of an algorithm; RS256 and PS256 share the one of RSA, which names none.
const keyOf = (alg) => keys.find((key) => (key.alg ? key.alg === alg : ['RS256', 'PS256'].includes(alg)));

// --- the provider ------------------------------------------------------------------------------------------------------

function account(login) {
  const claims = settings.accounts[login];
  return claims && { accountId: login, claims: async () => ({ sub: login, ...claims }) };
}

const names = Object.values(settings.accounts).flatMap(Object.keys);
const standard = { email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] };
// Whatever else the accounts have, groups among them, comes with `profile`, so that a test can invent any claim.
standard.profile.push(...new Set(names.filter((name) => name !== 'sub' && !Object.values(standard).flat().includes(name))));

function build() {
  const provider = new oidc.Provider(issuer, {
    adapter: storage.adapter,
    clients: settings.clients,
    jwks: { keys },
    findAccount: async (_, login) => account(login),
    claims: { openid: ['sub'], auth_time: null, iss: null, sid: null, acr: null, ...standard },
    conformIdTokenClaims: !settings.claimsInIdToken,
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async (_, client, code) => client.grantTypeAllowed('refresh_token')
      && (settings.refresh === 'always' || code.scopes.has('offline_access')),
    expiresWithSession: async () => false,
    responseTypes: ['code'],
    scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
    ttl: { ...seconds, ...settings.ttl },
    cookies: { keys: ['tests'], names: { session: `${cookies}_s`, interaction: `${cookies}_i`, resume: `${cookies}_r` } },
    interactions: { url: (_, interaction) => `${settings.path}/interaction/${interaction.uid}` },
    loadExistingGrant: async (ctx) => {
      const known = ctx.oidc.result?.consent?.grantId || ctx.oidc.session.grantIdFor(ctx.oidc.client.clientId);
      if (known) return ctx.oidc.provider.Grant.find(known);
      const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId });
      grant.addOIDCScope(ctx.oidc.params.scope ?? 'openid');
      // Whoever comes for an API (RFC 8707) may use it.
      for (const resource of [ctx.oidc.params.resource ?? []].flat()) grant.addResourceScope(resource, 'api:read');
      await grant.save();
      return grant;
    },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = page('Sign out?', `${form}<button autofocus type="submit" form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button>`);
        },
      },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      userinfo: { enabled: true },
      // Access tokens as JWTs (RFC 9068) for whoever names a resource (RFC 8707).
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: 'api:read api:write', audience: resource, accessTokenTTL: seconds.AccessToken, accessTokenFormat: 'jwt',
          jwt: { sign: { alg: settings.accessTokenAlg ?? 'ES256' } },
        }),
      },
    },
    // Its own one refuses loopback, where the gateway is.
    fetch: callGateway,
    renderError: (ctx, out) => { ctx.body = page('Error', `<pre id="error">${safe(JSON.stringify(out))}</pre>`); },
  });
  if (!settings.issParameter) {
    // A provider from before RFC 9207: neither the promise nor the parameter.
    provider.use(async (ctx, next) => {
      await next();
      if (ctx.path.endsWith('/.well-known/openid-configuration')) {
        ctx.body = { ...ctx.body, authorization_response_iss_parameter_supported: undefined };
      }
      const to = ctx.response.get('location');
      if (/[?&]iss=/.test(to) && /[?&](code|error)=/.test(to)) {
        const url = new URL(to);
        url.searchParams.delete('iss');
        ctx.set('location', url.href);
      }
    });
  }
  const note = (kind) => (...args) => {
    const error = args.find((arg) => arg instanceof Error);
    calls.push({ endpoint: kind, error: error && String(error.error_detail ?? error.message) });
  };
  for (const kind of ['backchannel.success', 'backchannel.error', 'grant.error', 'authorization.error', 'end_session.success', 'end_session.error']) provider.on(kind, note(kind));
  provider.on('server_error', (_, error) => console.error(error));
  return { provider, answer: provider.callback() };
}

// The client side of back-channel logout. `https://app.test` is wherever the gateway listens, with a certificate of its own.
function callGateway(url, { method, headers, body }) {
  const to = new URL(url);
  const [host, port] = (settings.gateway ?? to.host).split(':');
  const text = body === undefined ? '' : String(body);
  return new Promise((resolve, reject) => {
    const request = https.request({
      host, port, method, path: to.pathname + to.search, servername: to.hostname, rejectUnauthorized: false,
      headers: { ...Object.fromEntries(new Headers(headers)), host: to.host, 'content-length': Buffer.byteLength(text) },
      timeout: 10_000,
    }, (response) => {
      response.resume();
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers }));
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', reject);
    request.end(text);
  });
}

// --- pages -------------------------------------------------------------------------------------------------------------

const safe = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const page = (title, body) => `<!doctype html><html lang="en"><title>${safe(title)}</title><h1>${safe(title)}</h1>${body}</html>`;

async function interaction(request, response) {
  const { uid, prompt, params, session, grantId } = await live.provider.interactionDetails(request, response);
  const finish = (result, merge = false) => live.provider.interactionFinished(request, response, result, { mergeWithLastSubmission: merge });
  if (request.method === 'GET') {
    const fields = prompt.name === 'login'
      ? '<label>Name <input name="login" autofocus></label><label>Password <input name="password" type="password"></label>' : '';
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(page(`Sign in to ${params.client_id}`, `<form method="post" action="${settings.path}/interaction/${uid}" data-prompt="${prompt.name}">${fields}<button name="go" value="yes">Continue</button><button name="go" value="no">Cancel</button></form>`));
    return;
  }
  const form = new URLSearchParams(await text(request));
  if (form.get('go') === 'no') {
    await finish({ error: 'access_denied', error_description: 'The person cancelled' });
  } else if (prompt.name === 'login') {
    const login = form.get('login');
    if (!account(login)) { response.statusCode = 403; response.end(page('Nobody of that name', '')); return; }
    await finish({ login: { accountId: login, amr: ['pwd'], remember: true } });
  } else {
    const grant = grantId ? await live.provider.Grant.find(grantId) : new live.provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    await finish({ consent: { grantId: await grant.save() } }, true);
  }
}

// --- the listeners -----------------------------------------------------------------------------------------------------

async function text(request) {
  let all = '';
  for await (const part of request) all += part;
  return all;
}

const endpoints = { '/.well-known/openid-configuration': 'discovery', '/jwks': 'jwks', '/auth': 'authorize', '/token': 'token', '/me': 'userinfo', '/session/end': 'logout' };

async function serve(request, response) {
  const path = new URL(request.url, issuer).pathname.slice(settings.path.length);
  const endpoint = endpoints[path];
  if (endpoint === 'token') {
    // The body is read here and handed on, so that the calls can be counted by what was asked.
    const body = await text(request);
    const form = new URLSearchParams(body);
    request.body = Object.fromEntries(form);
    request.rawBody = body;
    const token = form.get('refresh_token');
    calls.push({
      endpoint, grant: form.get('grant_type'), at: Date.now(), verifier: form.has('code_verifier'),
      refresh: token && createHash('sha256').update(token).digest('hex'),
      auth: request.headers.authorization ? 'client_secret_basic' : form.has('client_assertion') ? 'private_key_jwt' : form.has('client_secret') ? 'client_secret_post' : 'none',
    });
  } else if (endpoint) calls.push({ endpoint, at: Date.now() });
  const fault = endpoint && faults[endpoint];
  if (fault && (fault.times === undefined || fault.times-- > 0)) {
    if (fault.delay) await new Promise((resolve) => { setTimeout(resolve, fault.delay); });
    if (fault.hold) await new Promise((resolve) => { held.push(resolve); });
    if (fault.hang) return;
    if (fault.cut) { request.socket.destroy(); return; }
    if (fault.status) {
      response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
      response.end(fault.body ?? '{"error":"temporarily_unavailable"}');
      return;
    }
  }
  if (endpoint === 'token') response.on('finish', () => calls.push({ endpoint: 'token.answered', status: response.statusCode }));
  if (path.startsWith('/interaction/')) { await interaction(request, response); return; }
  if (settings.path) request.originalUrl = request.url;
  if (settings.path && request.url.startsWith(settings.path)) request.url = request.url.slice(settings.path.length);
  // The answer is made, perhaps with tokens spent for it, and never arrives.
  if (fault?.swallow && (fault.times === undefined || fault.times >= 0)) response.end = () => { request.socket.destroy(); return response; };
  live.answer(request, response);
}

async function sessions(login) {
  return storage.all('Session').filter((session) => session.accountId === login);
}

const controls = {
  calls: () => calls,
  forget: () => { calls = []; },
  faults: (body) => { faults = body; },
  release: () => { held.splice(0).forEach((go) => go()); },
  accounts: (body) => { Object.assign(settings.accounts, body); },
  gateway: (body) => { settings.gateway = body; },
  // All refresh tokens of a person are dead: the next renewal meets `invalid_grant`.
  revoke: async ({ user }) => {
    const grants = storage.all('Grant').filter((grant) => grant.accountId === user);
    for (const { jti } of grants) storage.revoke(jti);
    return grants.length;
  },
  // As an administrator ends somebody's sessions at the provider: back-channel logout to every client of them.
  end_sessions: async ({ user }) => {
    let told = 0;
    for (const session of await sessions(user)) {
      for (const [id, authorization] of Object.entries(session.authorizations ?? {})) {
        const client = await live.provider.Client.find(id);
        if (client?.backchannelLogoutUri) { await client.backchannelLogout(user, authorization.sid); told += 1; }
        storage.revoke(authorization.grantId);
      }
      storage.remove('Session', session.jti);
    }
    return told;
  },
  sids: async ({ user }) => (await sessions(user)).flatMap((session) => Object.values(session.authorizations ?? {}).map((a) => a.sid)),
  // New keys sign from now on; the old ones stay published when `keep`.
  rotate_keys: async ({ keep }) => {
    const next = await fresh();
    keys = keep ? [...next, ...keys] : next;
    live = build();
    return keys.map((key) => key.kid);
  },
  // Any JWT, made by jose: by the provider's key of the header's algorithm, by a stranger's under that key's id, or by a
  // secret. `named`: under the id of the key of this algorithm instead.
  sign: async ({ header, claims, named, stranger, secret }) => {
    const { alg } = header;
    const protectedHeader = secret ? header : { kid: keyOf(named ?? alg).kid, ...header };
    const jwk = stranger ? await generate(alg) : keyOf(alg);
    const key = secret ? new TextEncoder().encode(secret) : await jose.importJWK(jwk, alg);
    // jose signs no critical extension that nobody vouches for.
    const crit = Object.fromEntries((header.crit ?? []).map((name) => [name, true]));
    return new jose.SignJWT(claims).setProtectedHeader(protectedHeader).sign(key, { crit });
  },
  uuid: () => randomUUID(),
  // Nobody listens any more, and whoever was connected is not; or somebody does again.
  door: ({ open }) => new Promise((resolve) => {
    if (open) main.listen(port, '127.0.0.1', resolve);
    else { main.close(resolve); main.closeAllConnections(); }
  }),
};

function guarded(handle) {
  return (request, response) => {
    handle(request, response).catch((error) => {
      console.error(error);
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    });
  };
}

const tls = settings.tls && { cert: readFileSync(settings.tls.cert), key: readFileSync(settings.tls.key) };
const main = tls ? https.createServer(tls, guarded(serve)) : http.createServer(guarded(serve));
const control = http.createServer(guarded(async (request, response) => {
  const does = controls[request.url.slice(1)];
  const body = await text(request);
  const value = does ? await does(body ? JSON.parse(body) : {}) : undefined;
  response.writeHead(does ? 200 : 404, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value ?? null));
}));

const listening = (server) => new Promise((resolve) => { server.listen(0, '127.0.0.1', () => resolve(server.address().port)); });
keys = await fresh();
const port = await listening(main);
const issuer = `${tls ? 'https' : 'http'}://${settings.host}:${port}${settings.path}`;
let live = build();
console.log(JSON.stringify({ issuer, control: await listening(control) }));
// Ends with the test that started it, however that ends.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
