// An app of the kind that many tutorials build: a sign-in page of its own, an access token and a refresh token (JWT,
// HS256) in HttpOnly cookies, and POST /auth/refresh, which rotates the refresh token and ends the whole sign-in when a
// spent one comes back. It has no dependencies and knows nothing of a gateway: what it knows of a request it shows.
//
// `control.mjs` starts it for the tests and can look at it and break it; nothing in here is there for that but `clock`,
// `ttl` and `on`.

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const PEOPLE = {
  alice: { password: 'wonderland', email: 'alice@example.com', name: 'Alice', roles: ['staff', 'writers'] },
  bob: { password: 'builder', email: 'bob@example.com', name: 'Bob', roles: [] },
};

const b64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

export function sign(claims, secret, header = { alg: 'HS256', typ: 'JWT' }) {
  const text = `${b64(header)}.${b64(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

function verify(token, secret, now) {
  const [header, payload, signature] = (token ?? '').split('.');
  if (!signature) return null;
  const right = createHmac('sha256', secret).update(`${header}.${payload}`).digest();
  const given = Buffer.from(signature, 'base64url');
  if (given.length !== right.length || !timingSafeEqual(given, right)) return null;
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  return claims.exp > now ? claims : null;
}

const cookies = (request) =>
  Object.fromEntries((request.headers.cookie ?? '').split('; ').filter(Boolean).map((pair) => {
    const at = pair.indexOf('=');
    return [pair.slice(0, at), pair.slice(at + 1)];
  }));

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

export function tutorial({ issuer, audience, accessSecret, refreshSecret, client }) {
  const app = {
    // Sign-ins: which refresh token is the current one.
    families: new Map(),
    clock: () => Math.floor(Date.now() / 1000),
    ttl: { access: 300, refresh: 14 * 86400 },
    // Called with the event's name; may be awaited, and may answer in the app's place by returning true.
    on: async () => false,
  };

  function issue(user, family) {
    const now = app.clock();
    const { email, name, roles } = PEOPLE[user];
    const jti = randomUUID();
    app.families.set(family, { user, current: jti, ended: false });
    return {
      access: sign({ iss: issuer, aud: audience, sub: user, email, name, roles, iat: now, exp: now + app.ttl.access, jti: randomUUID() }, accessSecret),
      refresh: sign({ iss: issuer, sub: user, family, jti, kind: 'refresh', iat: now, exp: now + app.ttl.refresh }, refreshSecret),
    };
  }

  const setCookies = ({ access, refresh }) => [
    `access_token=${access}; Max-Age=${app.ttl.access}; Path=/; HttpOnly; Secure; SameSite=Lax`,
    `refresh_token=${refresh}; Max-Age=${app.ttl.refresh}; Path=/; HttpOnly; Secure; SameSite=Strict`,
  ];
  const clearCookies = ['access_token', 'refresh_token'].map(
    (name) => `${name}=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT`,
  );

  // A new pair for a current token. A spent one ends the sign-in: somebody else may have it.
  app.rotate = async (token) => {
    const claims = verify(token, refreshSecret, app.clock());
    const family = claims && app.families.get(claims.family);
    if (!family || family.ended) return null;
    if (family.current !== claims.jti) {
      family.ended = true;
      await app.on('reuse', { user: claims.sub });
      return null;
    }
    return issue(claims.sub, claims.family);
  };

  const json = (response, status, value, headers = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(value));
  };
  const redirect = (response, to, headers = {}) => response.writeHead(303, { location: to, ...headers }).end();
  // A path of this app and nothing else.
  const back = (rd) => (/^\/(?![/\\])/.test(rd ?? '') ? rd : '/');

  async function serve(request, response) {
    const { pathname: path, searchParams: query } = new URL(request.url, 'http://app');
    const jar = cookies(request);
    const user = verify(jar.access_token, accessSecret, app.clock())?.sub ?? null;
    const text = await body(request);
    if (await app.on('request', { request, response, path, text, user })) return;
    const form = () => new URLSearchParams(text);

    switch (`${request.method} ${path}`) {
      case 'GET /login':
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
        return response.end(
          `<!doctype html><title>The app's own sign-in</title><form method="post" action="/login">
           <input type="hidden" name="rd" value="${encodeURI(back(query.get('rd'))).replaceAll('&', '&amp;')}">
           <input name="username" autocomplete="username"><input name="password" type="password"><button>Sign in</button></form>`,
        );
      case 'POST /login': {
        const [name, password, rd] = ['username', 'password', 'rd'].map((key) => form().get(key));
        if (!PEOPLE[name] || PEOPLE[name].password !== password) return json(response, 401, { error: 'wrong name or password' });
        return redirect(response, back(rd), { 'set-cookie': setCookies(issue(name, randomUUID())) });
      }
      case 'POST /auth/refresh': {
        if (await app.on('refresh', { request, response, token: jar.refresh_token })) return;
        const pair = await app.rotate(jar.refresh_token);
        if (!pair) return json(response, 401, { error: 'sign in again' }, { 'set-cookie': clearCookies });
        if (await app.on('rotated', { response })) return;
        return json(response, 200, { ok: true }, { 'set-cookie': [...setCookies(pair), 'theme=dark; Path=/'] });
      }
      // The same as an RFC 6749 token endpoint.
      case 'POST /oauth/token': {
        if (await app.on('refresh', { request, response, token: form().get('refresh_token') })) return;
        // RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
        const basic = Buffer.from((request.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString()
          .split(':').map((half) => decodeURIComponent(half.replaceAll('+', ' '))).join(':');
        if (form().get('grant_type') !== 'refresh_token') return json(response, 400, { error: 'unsupported_grant_type' });
        if (client.secret ? basic !== `${client.id}:${client.secret}` : form().get('client_id') !== client.id) {
          return json(response, 401, { error: 'invalid_client' });
        }
        const pair = await app.rotate(form().get('refresh_token'));
        if (!pair) return json(response, 400, { error: 'invalid_grant' });
        return json(response, 200, {
          access_token: pair.access, refresh_token: pair.refresh, token_type: 'Bearer', expires_in: app.ttl.access,
        }, { 'cache-control': 'no-store' });
      }
      case 'POST /logout': {
        const claims = verify(jar.refresh_token, refreshSecret, app.clock());
        const family = claims && app.families.get(claims.family);
        if (family) family.ended = true;
        return redirect(response, '/login', { 'set-cookie': clearCookies });
      }
      case 'GET /page':
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
        return response.end(`<!doctype html><title>page</title><p id="ready">${user ?? 'nobody'}</p><script>
          async function fire(count, path) {
            window.done = false;
            const all = Array.from({ length: count }, (_, i) => fetch(path + '?n=' + i).then((a) => a.status, () => 0));
            window.statuses = await Promise.all(all);
            window.done = true;
          }</script>`);
      default:
        return json(response, 200, { user, method: request.method, path: request.url, headers: request.headers, body: text });
    }
  }

  app.server = createServer((request, response) => {
    serve(request, response).catch((error) => {
      console.error(error);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  return app;
}
