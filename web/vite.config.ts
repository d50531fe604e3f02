import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a running broker or console; any Prometheus works, without the live push. */
const backend = process.env.WATCHFIRE_URL ?? 'http://127.0.0.1:9595';

export default defineConfig({
  plugins: [svelte()],
  server: {
    proxy: {
      '/api': { target: backend, ws: true, changeOrigin: true },
      '/loki': { target: backend, ws: true, changeOrigin: true },
      '/prometheus': { target: backend, changeOrigin: true },
      '/-/': { target: backend, changeOrigin: true },
      '/metrics': { target: backend, changeOrigin: true },
    },
  },
  build: {
    target: 'es2022',
    // The preload polyfill would be an inline script in spirit; every supported browser has modulepreload.
    modulePreload: { polyfill: false },
    // Small assets stay files, so that `default-src 'self'` needs no `data:` exception for them.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
