// `node watching.mjs LIBRARY NAMESPACE`: print `TYPE NAME VERSION` for every event of its config maps,
// as the informer of @kubernetes/client-node tells of them, until one of the name "end" comes.
const [library, namespace] = process.argv.slice(2);
const k8s = await import(library);
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

const informer = k8s.makeInformer(
  config, `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace }));
const names = { add: 'ADDED', update: 'MODIFIED', delete: 'DELETED' };
for (const [verb, type] of Object.entries(names)) {
  informer.on(verb, ({ metadata: { name, resourceVersion } }) => {
    console.log(type, name, resourceVersion);
    if (name === 'end') process.exit(0);
  });
}
// As its own examples do: what breaks is started again, from where it was.
informer.on('error', (error) => {
  console.log('BROKEN', String(error.code ?? error.name).replace(/ /g, '-'), 0);
  setTimeout(() => informer.start(), 50);
});
await informer.start();
console.log('LISTED - 0');
