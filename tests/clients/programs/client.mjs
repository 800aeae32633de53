// @kubernetes/client-node: `node client.mjs LIBRARY NAMESPACE` runs every flow and prints, as JSON,
// what went wrong in each (null when nothing did).
import assert from 'node:assert/strict';
import { PassThrough, Readable, Writable } from 'node:stream';

const [library, namespace] = process.argv.slice(2);
const k8s = await import(library);
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

const configMap = (name, data = {}) => ({
  apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels: { of: 'node' } }, data,
});
const pod = (name) => ({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace },
  spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'main', image: 'web:1' }] },
});

class Collected extends Writable {
  text = '';
  _write(chunk, _encoding, done) { this.text += chunk; done(); }
}

const until = async (check) => {
  for (let n = 0; n < 400; n++) {
    const value = await check();
    if (value) return value;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  throw new Error(`not in time: ${check}`);
};

let running;
const runningPod = (name = 'busy') => running ??= (async () => {
  await core.createNamespacedPod({ namespace, body: pod(name) });
  await until(async () =>
    (await core.readNamespacedPod({ name, namespace })).status.phase === 'Running');
  return name;
})();

const flows = {
  async objects() {
    await core.createNamespacedConfigMap({ namespace, body: configMap('a', { x: '1' }) });
    const read = await core.readNamespacedConfigMap({ name: 'a', namespace });
    read.data.y = '2';
    await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: read });
    await core.patchNamespacedConfigMap({
      name: 'a', namespace, body: [{ op: 'remove', path: '/data/x' }],
    });
    const merged = await core.patchNamespacedConfigMap(
      { name: 'a', namespace, body: { data: { z: '3' } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
    assert.deepEqual(merged.data, { y: '2', z: '3' });
    const list = await core.listNamespacedConfigMap({ namespace, fieldSelector: 'metadata.name=a' });
    assert.equal(list.items.length, 1);
    await core.deleteNamespacedConfigMap({ name: 'a', namespace });
    await assert.rejects(core.readNamespacedConfigMap({ name: 'a', namespace }), { code: 404 });
  },

  async anyKind() {
    await objects.create(configMap('any', { x: '1' }));
    const patched = await objects.patch(configMap('any', { x: '2' }));
    assert.equal(patched.data.x, '2');
    const found = await objects.list('v1', 'ConfigMap', namespace, undefined, undefined, undefined,
      'metadata.name=any');
    assert.equal(found.items.length, 1);
    await objects.delete(configMap('any'));
  },

  async apply() {
    const apply = (manager, data, force = false) => objects.patch(
      configMap('applied', data), undefined, undefined, manager, force,
      k8s.PatchStrategy.ServerSideApply);
    assert.equal((await apply('one', { x: '1' })).data.x, '1');
    await assert.rejects(apply('two', { x: '2' }), { code: 409 });
    assert.equal((await apply('two', { x: '2' }, true)).data.x, '2');
  },

  async watch() {
    const seen = [];
    const done = new Promise((resolve, reject) => {
      const watch = new k8s.Watch(config);
      const watching = watch.watch(
        `/api/v1/namespaces/${namespace}/configmaps`, { fieldSelector: 'metadata.name=w' },
        async (type) => {
          seen.push(type);
          if (seen.length === 3) { (await watching).abort(); resolve(); }
        },
        (error) => error && error.name !== 'AbortError' && reject(error));
    });
    await core.createNamespacedConfigMap({ namespace, body: configMap('w') });
    await core.patchNamespacedConfigMap(
      { name: 'w', namespace, body: { data: { x: '1' } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch));
    await core.deleteNamespacedConfigMap({ name: 'w', namespace });
    await done;
    assert.deepEqual(seen, ['ADDED', 'MODIFIED', 'DELETED']);
  },

  async informer() {
    const labelSelector = 'of=node';
    const informer = k8s.makeInformer(
      config, `/api/v1/namespaces/${namespace}/secrets`,
      () => core.listNamespacedSecret({ namespace, labelSelector }), labelSelector);
    const seen = [];
    for (const verb of ['add', 'update', 'delete']) {
      informer.on(verb, (object) => seen.push(`${verb} ${object.metadata.name}`));
    }
    const secret = { metadata: { name: 's', labels: { of: 'node' } } };
    await core.createNamespacedSecret({ namespace, body: secret });
    await informer.start();
    await until(() => informer.get('s', namespace));
    // Without the label it is no longer among what is watched.
    await core.patchNamespacedSecret(
      { name: 's', namespace, body: { metadata: { labels: { of: null } } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
    await until(() => seen.includes('delete s'));
    await informer.stop();
    assert.deepEqual(seen, ['add s', 'delete s']);
  },

  async exec() {
    const name = await runningPod();
    const [out, err] = [new Collected(), new Collected()];
    const status = await new Promise((resolve, reject) => {
      new k8s.Exec(config).exec(
        namespace, name, 'main', ['sh', '-c', 'read x; echo got $x; echo err >&2; exit 3'],
        out, err, Readable.from(['typed\n']), false, resolve).catch(reject);
    });
    assert.deepEqual([out.text, err.text], ['got typed\n', 'err\n']);
    assert.equal(status.details.causes[0].message, '3');
  },

  async log() {
    const name = await runningPod();
    const text = new Collected();
    await new k8s.Log(config).log(namespace, name, 'main', text, { tailLines: 1 });
    await until(() => text.text);
    assert.equal(text.text, 'started\n');
  },

  async copy() {
    const name = await runningPod();
    const [out, err] = [new Collected(), new Collected()];
    const input = new PassThrough();
    input.end('hello\n');
    await new Promise((resolve, reject) => {
      new k8s.Exec(config).exec(
        namespace, name, 'main', ['sh', '-c', 'head -n 1 > /tmp/f; cat /tmp/f'], out, err, input,
        false, resolve).catch(reject);
    });
    assert.equal(out.text, 'hello\n');
  },

  async portForward() {
    const name = await runningPod();
    const [out, err] = [new Collected(), new Collected()];
    const input = new PassThrough();
    const socket = await new k8s.PortForward(config).portForward(
      namespace, name, [8080], out, err, input);
    input.write('GET / HTTP/1.0\r\n\r\n');
    await until(() => out.text.includes('version 1'));
    (typeof socket === 'function' ? socket() : socket)?.close();
    assert.equal(err.text, '');
  },

  async deployment() {
    const name = 'web';
    const spec = {
      replicas: 1, selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec: pod('x').spec },
    };
    await apps.createNamespacedDeployment({ namespace, body: { metadata: { name }, spec } });
    await until(async () =>
      (await apps.readNamespacedDeploymentStatus({ name, namespace })).status.availableReplicas);
    // Controllers write too: what was read may be old by now.
    await until(async () => {
      const scale = await apps.readNamespacedDeploymentScale({ name, namespace });
      scale.spec.replicas = 2;
      return apps.replaceNamespacedDeploymentScale({ name, namespace, body: scale }).then(
        () => true, (error) => { if (error.code !== 409) throw error; });
    });
    await until(async () =>
      (await apps.readNamespacedDeployment({ name, namespace })).status.readyReplicas === 2);
    await apps.deleteNamespacedDeployment({ name, namespace, propagationPolicy: 'Foreground' });
    await until(async () =>
      !(await core.listNamespacedPod({ namespace, labelSelector: `app=${name}` })).items.length);
  },

  async metrics() {
    const usage = await until(() => new k8s.Metrics(config).getNodeMetrics().then(
      (list) => list.items.length && list.items[0].usage, () => null));
    assert.match(usage.memory, /^\d+Ki$/);
    const nodes = await k8s.topNodes(core);
    assert.equal(nodes.length, 1);
  },
};

const outcomes = {};
await Promise.all(Object.entries(flows).map(async ([name, flow]) => {
  try { await flow(); outcomes[name] = null; }
  catch (error) { outcomes[name] = String(error?.stack ?? error) + JSON.stringify(error?.body ?? ''); }
}));
console.log(JSON.stringify(outcomes));
process.exit(0);
