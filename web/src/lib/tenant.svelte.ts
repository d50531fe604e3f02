/**
 * Whose data the console shows, where there is a choice. It goes with each request as a header, as
 * Mimir, Loki and Tempo have it; a WebSocket cannot have one, so there it stands in the address.
 */

import { load, save } from './storage';

/** The tenant of everything that names none. */
export const DEFAULT_TENANT = 'default';
/** A credential for all tenants. */
export const ALL_TENANTS = '*';

const KEY = 'tenant';
const isName = (value: unknown): value is string => typeof value === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(value);

let chosen = $state(load(KEY, isName) ?? '');

export const tenant = {
  /** The one that was chosen; empty if none was, which is the default one. */
  get chosen(): string {
    return chosen;
  },
  /** What is on the page, and what is kept for it, is another tenant's: so everything begins anew. */
  choose(name: string): void {
    save(KEY, name === DEFAULT_TENANT ? '' : name);
    location.reload();
  },
  /** For who reaches one tenant only: an earlier choice would be refused. */
  forget(): void {
    if (chosen === '') return;
    chosen = '';
    save(KEY, '');
  },
  /** What a request has to bear. */
  headers(): Record<string, string> {
    return chosen === '' ? {} : { 'X-Scope-OrgID': chosen };
  },
};
