/** Who is logged in, and whether anybody has to be. */

import { ApiError, get, send, whenUnauthorized } from './api/client';
import { live } from './live/socket.svelte';
import { ALL_TENANTS, tenant } from './tenant.svelte';

export type Scope = 'read' | 'write' | 'admin';

export interface Principal {
  name: string;
  kind: string;
  scopes: Scope[];
  /** The tenant whose data they reach; `*` for all. */
  tenant: string;
}

interface WhoAmI {
  login: 'none' | 'required';
  /** Whether the first user is still to be made. */
  setup: boolean;
  principal: Principal | null;
}

const RETRY_MS = 1_500;

let known = $state.raw<WhoAmI | null>(null);
let ended = $state(false);
let fault = $state('');

async function ask(): Promise<void> {
  try {
    known = await get<WhoAmI>('/api/v1/whoami');
    fault = '';
    if (known.principal && known.principal.tenant !== ALL_TENANTS) tenant.forget();
  } catch (error) {
    // The server starts, or is away, or does not know who may enter; nothing can be shown without it.
    fault = error instanceof ApiError && error.type !== 'network' ? error.message : '';
    setTimeout(() => void ask(), RETRY_MS);
    return;
  }
  if (mayEnter(known)) live.open();
}

const mayEnter = (who: WhoAmI): boolean => who.login === 'none' || who.principal !== null;

whenUnauthorized(() => {
  if (known?.principal && known.login === 'required') {
    ended = true;
    known = { ...known, principal: null };
    live.close();
  }
});

export const session = {
  /** Whether it is known yet who is here. */
  get isKnown(): boolean {
    return known !== null;
  },
  get mayEnter(): boolean {
    return known !== null && mayEnter(known);
  },
  /** What the server says instead of who is here; empty while it has not said anything. It is asked again and again. */
  get fault(): string {
    return fault;
  },
  get needsSetup(): boolean {
    return known?.setup === true && known.login === 'required';
  },
  /** Whether there is a login at all, and so something to log out of. */
  get hasLogin(): boolean {
    return known?.login === 'required';
  },
  get principal(): Principal | null {
    return known?.principal ?? null;
  },
  /** Whether the session ended by itself, so that the login page can say why it is there. */
  get hasEnded(): boolean {
    return ended;
  },
  may(scope: Scope): boolean {
    if (known === null || known.login === 'none') return known !== null;
    const scopes = known.principal?.scopes ?? [];
    return scopes.includes(scope) || scopes.includes('admin');
  },
  /** Whether there may be other tenants to choose from. */
  get reachesAll(): boolean {
    return known?.principal?.tenant === ALL_TENANTS;
  },
  load: ask,
  async logIn(user: string, password: string): Promise<void> {
    await send('POST', '/api/v1/login', { user, password });
    ended = false;
    await ask();
  },
  async setUp(token: string, user: string, password: string): Promise<void> {
    await send('POST', '/api/v1/setup', { token, user, password });
    await ask();
  },
  async logOut(): Promise<void> {
    await send('POST', '/api/v1/logout');
    live.close();
    await ask();
  },
};
