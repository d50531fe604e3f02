/** Saved views: what a page shows, under a name, for everyone. */

import { get, send } from './client';

export interface SavedView {
  name: string;
  page: string;
  /** The parameters of the page's address. */
  params: string;
  changed_by: string;
  changed_ms: number;
  version: number;
}

const at = (name: string): string => `/api/v1/views/${encodeURIComponent(name)}`;

export const views = {
  list: async () => (await get<{ views: SavedView[] }>('/api/v1/views')).views,
  /** Fails if the view no longer has this version; 0 is that of a name nobody uses. */
  save: ({ name, page, params, version }: Pick<SavedView, 'name' | 'page' | 'params' | 'version'>) =>
    send<SavedView>('PUT', at(name), { page, params, version }),
  delete: (name: string) => send('DELETE', at(name)),
};
