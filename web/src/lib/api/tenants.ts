/** Whose data there is. */

import { getAll } from './client';

export interface Tenant {
  name: string;
  activeSeries: number;
  maxActiveSeries: number;
  samplesStored: number;
}

/** All that the caller reaches, whichever is chosen. */
export const tenants = async (signal?: AbortSignal): Promise<Tenant[]> =>
  (await getAll<{ tenants: Tenant[] }>('/api/v1/tenants', signal)).tenants;
