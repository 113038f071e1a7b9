{{- define "aisle.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "aisle.labels" -}}
app.kubernetes.io/name: aisle
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Of the pods that a client may reach: in a Ray cluster not of all that carry the labels above. */}}
{{- define "aisle.gatewayLabels" -}}
app.kubernetes.io/name: aisle
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "aisle.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* aisle.toml as YAML: what the chart derives, and over it .Values.config. */}}
{{- define "aisle.config" -}}
{{- $threads := max 1 (div (int (ceil .Values.gateways.cpus)) (int .Values.gateways.perPod)) -}}
{{- $server := dict "host" "0.0.0.0" "port" 9000 "drain_s" 10 "replicas" (int .Values.gateways.perPod) -}}
{{- if eq .Values.mode "raycluster" -}}
{{- $_ := set $server "replicas" (mul .Values.gateways.pods .Values.gateways.perPod) -}}
{{- $_ := set $server "ray_resource" "aisle_gateway" -}}
{{- end -}}
{{- if not .Values.tls.secret -}}{{- $_ := set $server "allow_insecure" true -}}{{- end -}}
{{- $config := dict "server" $server "log" (dict "format" "json") -}}
{{- $_ := set $config "encoder" (dict "threads" $threads) -}}
{{- $_ := set $config "retriever" (dict "threads" $threads) -}}
{{- if .Values.tls.secret -}}
{{- $tls := dict "certificate" "/etc/aisle-tls/tls.crt" "key" "/etc/aisle-tls/tls.key" -}}
{{- if .Values.tls.clientCa -}}{{- $_ := set $tls "client_ca" "/etc/aisle-tls/ca.crt" -}}{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- if .Values.apiKeys.secret -}}
{{- $_ := set $config "auth" (dict "keys_file" (printf "/etc/aisle-keys/%s" .Values.apiKeys.key)) -}}
{{- end -}}
{{- if .Values.redis.address -}}
{{- $shoppers := dict "store" "redis" "url" (printf "%s/%d" .Values.redis.address (int .Values.redis.shoppersDb)) -}}
{{- $catalogue := dict "log" "redis" "url" (printf "%s/%d" .Values.redis.address (int .Values.redis.catalogueDb)) -}}
{{- if .Values.redis.passwordSecret -}}
{{- $file := printf "/etc/aisle-redis/%s" .Values.redis.passwordKey -}}
{{- $_ := set $shoppers "password_file" $file -}}
{{- $_ := set $catalogue "password_file" $file -}}
{{- end -}}
{{/* A generation that one pod builds for itself would take from the log what the others still need. */}}
{{- if or .Values.bundle.url .Values.bundle.readOnly -}}{{- $_ := set $catalogue "compact_after" 0 -}}{{- end -}}
{{- $_ := set $config "shoppers" $shoppers -}}
{{- $_ := set $config "catalogue" $catalogue -}}
{{- else -}}
{{- $_ := set $config "shoppers" (dict "store" "off") -}}
{{- $_ := set $config "catalogue" (dict "log" "off") -}}
{{- end -}}
{{- if .Values.metrics.enabled -}}
{{- $_ := set $config "metrics" (dict "host" "0.0.0.0" "port" (int .Values.metrics.port)) -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end }}

{{/* A scalar of JSON, or a list of them, is one of TOML. */}}
{{- define "aisle.toml" -}}
{{- range $section, $keys := include "aisle.config" . | fromYaml }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{ end }}
{{- end }}

{{- define "aisle.port" -}}
{{- (include "aisle.config" . | fromYaml).server.port | int -}}
{{- end }}

{{- define "aisle.drainSeconds" -}}
{{- (include "aisle.config" . | fromYaml).server.drain_s | ceil | int -}}
{{- end }}

{{/* The port leaves the lists of clients first, then calls end, then Ray, which drains a node of a cluster for 30 s. */}}
{{- define "aisle.graceSeconds" -}}
{{- add 5 (include "aisle.drainSeconds" . | int) 20 (ternary 30 0 (eq .Values.mode "raycluster")) -}}
{{- end }}

{{- define "aisle.bundlePath" -}}
{{- if .Values.bundle.url }}/bundles/current{{ else if .Values.bundle.folder }}/bundles/{{ .Values.bundle.folder }}{{ else }}/bundles{{ end -}}
{{- end }}

{{- define "aisle.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aisle.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "aisle.resources" -}}
requests: {cpu: {{ .cpus }}, memory: {{ .memory }}}
limits:
  memory: {{ .memory }}
  {{- if .gpus }}
  nvidia.com/gpu: {{ .gpus }}
  {{- end }}
{{- end }}

{{- define "aisle.env" -}}
- {name: HOME, value: /tmp}
- {name: TMPDIR, value: /tmp}
- {name: XDG_STATE_HOME, value: /tmp/state}
- {name: OMP_NUM_THREADS, value: {{ (include "aisle.config" . | fromYaml).encoder.threads | int | quote }}}
{{- if eq .Values.mode "raycluster" }}
{{- with .Values.ray.tokenSecret }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: auth_token}}
{{- end }}
{{- end }}
{{- end }}

{{- define "aisle.mounts" -}}
- {name: bundles, mountPath: /bundles, readOnly: {{ or (not (empty .Values.bundle.url)) .Values.bundle.readOnly }}}
- {name: config, mountPath: /etc/aisle, readOnly: true}
- {name: shm, mountPath: /dev/shm}
- {name: scratch, mountPath: /tmp}
{{- if .Values.tls.secret }}
- {name: tls, mountPath: /etc/aisle-tls, readOnly: true}
{{- end }}
{{- if .Values.apiKeys.secret }}
- {name: keys, mountPath: /etc/aisle-keys, readOnly: true}
{{- end }}
{{- if .Values.redis.passwordSecret }}
- {name: redis, mountPath: /etc/aisle-redis, readOnly: true}
{{- end }}
{{- end }}

{{- define "aisle.volumes" -}}
- name: bundles
  {{- if .Values.bundle.url }}
  emptyDir: {sizeLimit: {{ .Values.bundle.size }}}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ .Values.bundle.claim }}, readOnly: {{ .Values.bundle.readOnly }}}
  {{- end }}
- name: config
  configMap: {name: {{ include "aisle.name" . }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.gateways.shm }}}
- name: scratch
  emptyDir: {sizeLimit: {{ .Values.gateways.scratch }}}
{{- with .Values.tls.secret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.apiKeys.secret }}
- name: keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.redis.passwordSecret }}
- name: redis
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* Fetches the bundle before anything else starts. */}}
{{- define "aisle.initContainers" -}}
{{- if .Values.bundle.url }}
initContainers:
  - name: fetch-bundle
    image: {{ include "aisle.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - bundle
      - fetch
      - {{ .Values.bundle.url | quote }}
      - {{ include "aisle.bundlePath" . }}
      {{- with .Values.bundle.version }}
      - --version
      - {{ . | quote }}
      {{- end }}
    env:
      - {name: HOME, value: /tmp}
      - {name: TMPDIR, value: /tmp}
    {{- with .Values.bundle.credentials }}
    envFrom: [{secretRef: {name: {{ . }}}}]
    {{- end }}
    resources:
      requests: {cpu: 500m, memory: 512Mi}
      limits: {memory: 1Gi}
    securityContext: {{- include "aisle.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - {name: bundles, mountPath: /bundles}
      - {name: scratch, mountPath: /tmp}
{{- end }}
{{- end }}

{{- define "aisle.ports" -}}
- {name: grpc, containerPort: {{ include "aisle.port" . }}}
{{- if .Values.metrics.enabled }}
- {name: metrics, containerPort: {{ .Values.metrics.port }}}
{{- end }}
{{- end }}

{{/* Kubernetes' gRPC probes speak no TLS: there the open port has to do. */}}
{{- define "aisle.check" -}}
{{- if .Values.tls.secret }}tcpSocket: {port: {{ include "aisle.port" . }}}{{ else }}grpc: {port: {{ include "aisle.port" . }}}{{ end -}}
{{- end }}

{{- define "aisle.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all pods share. */}}
{{- define "aisle.podSpec" -}}
serviceAccountName: {{ include "aisle.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "aisle.graceSeconds" . }}
securityContext: {{- include "aisle.podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
{{- with include "aisle.initContainers" . | trim }}
{{ . }}
{{- end }}
volumes: {{- include "aisle.volumes" . | nindent 2 }}
{{- end }}
