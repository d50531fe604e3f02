import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    runes: true,
    // Scope classes by file path and name instead of content: stable between edits, identical between machines.
    cssHash: ({ hash, filename }) => `w${hash(filename.replace(/^.*\/src\//, 'src/'))}`,
  },
};
