/** Who may log in, which programs hold tokens, and which hosts have joined; for administrators. */

import type { Scope } from '../session.svelte';
import { ALL_TENANTS } from '../tenant.svelte';
import { get, send } from './client';

export interface User {
  name: string;
  scopes: Scope[];
  /** The tenant whose data they reach; `*` for all. */
  tenant: string;
  created_ms: number;
  password_set_ms: number;
  created_by: string;
}

export interface ApiToken {
  id: string;
  name: string;
  scopes: Scope[];
  /** The tenant whose data it reaches; `*` for all. */
  tenant: string;
  created_ms: number;
  expires_ms: number | null;
  created_by: string;
  last_used_ms: number | null;
}

export interface JoinToken {
  id: string;
  role: string;
  uses_left: number;
  created_ms: number;
  expires_ms: number;
  created_by: string;
}

export interface Certificate {
  name: string;
  role: string;
  joined_ms: number;
  expires_ms: number;
}

export const SCOPES: readonly Scope[] = ['read', 'write', 'admin'];

/** What stands for the tenants that somebody is to reach: the one that was written, or all. */
export const reachOf = (scopes: readonly Scope[], written: string): string => {
  const name = written.trim();
  return name === '' || scopes.includes('admin') ? ALL_TENANTS : name;
};

const at = (kind: string, name: string): string => `/api/v1/${kind}/${encodeURIComponent(name)}`;

export const users = {
  list: async () => (await get<{ users: User[] }>('/api/v1/users')).users,
  create: (user: { name: string; password: string; scopes: Scope[]; tenant: string }) => send('POST', '/api/v1/users', user),
  setScopes: (name: string, scopes: Scope[]) => send('PUT', `${at('users', name)}/scopes`, { scopes }),
  setTenant: (name: string, tenant: string) => send('PUT', `${at('users', name)}/tenant`, { tenant }),
  setPassword: (name: string, password: string) => send('PUT', `${at('users', name)}/password`, { password }),
  delete: (name: string) => send('DELETE', at('users', name)),
};

export const tokens = {
  list: async () => (await get<{ tokens: ApiToken[] }>('/api/v1/tokens')).tokens,
  /** The only answer that holds the token itself. */
  create: (token: { name: string; scopes: Scope[]; tenant: string; expires_in?: string }) =>
    send<{ token: string }>('POST', '/api/v1/tokens', token),
  revoke: (id: string) => send('DELETE', at('tokens', id)),
};

export const joins = {
  list: async () => (await get<{ tokens: JoinToken[] }>('/api/v1/join-tokens')).tokens,
  /** The only answer that holds the command for the next host. */
  create: (join: { uses: number; expires_in: string }) => send<{ command: string }>('POST', '/api/v1/join-tokens', join),
  revoke: (id: string) => send('DELETE', at('join-tokens', id)),
};

export const certificates = {
  list: async () => (await get<{ certificates: Certificate[] }>('/api/v1/certificates')).certificates,
  revoke: (name: string) => send('DELETE', at('certificates', name)),
};
