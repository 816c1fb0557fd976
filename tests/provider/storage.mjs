// Where the provider of the tests keeps everything: maps in memory, shared by all who replace each other after a change of
// keys. Without limits, unlike the library's own, which forgets the oldest of a thousand things.

const grantable = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken', 'DeviceCode', 'BackchannelAuthenticationRequest']);

export class Storage {
  constructor() {
    this.kinds = new Map();
    this.adapter = (kind) => this.of(kind);
  }

  of(kind) {
    const things = this.kinds.get(kind) ?? new Map();
    this.kinds.set(kind, things);
    const current = (thing) => (thing && thing.until > Date.now() ? thing.payload : undefined);
    const by = (member) => async (value) => [...things.values()].map(current).find((payload) => payload?.[member] === value);
    return {
      upsert: async (id, payload, expiresIn) => {
        things.set(id, { payload, until: expiresIn === undefined ? Infinity : Date.now() + expiresIn * 1000 });
      },
      find: async (id) => current(things.get(id)),
      findByUid: by('uid'),
      findByUserCode: by('userCode'),
      consume: async (id) => { things.get(id).payload.consumed = Math.floor(Date.now() / 1000); },
      destroy: async (id) => { things.delete(id); },
      revokeByGrantId: async (grant) => this.revoke(grant),
    };
  }

  all(kind) {
    return [...(this.kinds.get(kind)?.values() ?? [])].map((thing) => thing.payload);
  }

  remove(kind, id) {
    this.kinds.get(kind)?.delete(id);
  }

  // Everything that was issued under a grant, and the grant.
  revoke(grant) {
    for (const kind of grantable) {
      const things = this.kinds.get(kind) ?? new Map();
      for (const [id, { payload }] of things) if (payload.grantId === grant) things.delete(id);
    }
    this.remove('Grant', grant);
  }
}
