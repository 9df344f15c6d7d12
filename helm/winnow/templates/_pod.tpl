{{/*
Pod template of one role: `server` answers requests, `worker` only computes (several nodes).
Takes a dict of `root` and `role`.
*/}}
{{- define "winnow.podTemplate" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "winnow.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role | quote }}
    {{- include "winnow.versionLabels" .root | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: server
    {{- if or $values.auth.apiKey.value $values.huggingface.token.value }}
    # A changed key or token replaces the pods.
    checksum/secrets: {{ printf "%s/%s" $values.auth.apiKey.value $values.huggingface.token.value | sha256sum | quote }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # A Service named `vllm` would inject VLLM_PORT as an address, which vLLM refuses.
  enableServiceLinks: false
  automountServiceAccountToken: false
  serviceAccountName: {{ include "winnow.serviceAccountName" .root | quote }}
  terminationGracePeriodSeconds: {{ include "winnow.gracePeriod" .root }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ quote . }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ quote . }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $values.topologySpreadConstraints (eq .role "server") }}
  topologySpreadConstraints:
    {{- $selector := dict "matchLabels" (include "winnow.serverSelectorLabels" .root | fromYaml) }}
    {{- range $values.topologySpreadConstraints }}
    - {{ hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $selector) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: server
      image: {{ include "winnow.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy | quote }}
      {{- if eq .role "worker" }}
      {{- include "winnow.workerProcess" .root | nindent 6 }}
      {{- else }}
      {{- include "winnow.serverProcess" .root | nindent 6 }}
      {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      {{- with include "winnow.resources" .root }}
      resources:
        {{- . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "winnow.volumeMounts" .root | nindent 8 }}
  volumes:
    {{- include "winnow.volumes" .root | nindent 4 }}
{{- end -}}

{{/* preStop, then the requests in flight, then half a minute for the engine to go. */}}
{{- define "winnow.gracePeriod" -}}
{{- add .Values.shutdown.preStopSeconds .Values.shutdown.drainSeconds 30 -}}
{{- end -}}

{{/* What the server's container runs, how it is asked for its health, and how it stops. */}}
{{- define "winnow.serverProcess" -}}
{{- if .Values.multiNode.enabled -}}
{{ include "winnow.leaderCommand" . }}
{{ end -}}
args:
  {{- include "winnow.arguments" . | trim | nindent 2 }}
env:
  {{- include "winnow.environment" . | trim | nindent 2 }}
  {{- with include "winnow.apiKeyVariable" (dict "root" . "variable" "VLLM_API_KEY") }}
  {{- . | nindent 2 }}
  {{- end }}
ports:
  - name: http
    containerPort: 8000
    protocol: TCP
startupProbe:
  {{- include "winnow.probe" .Values.probes.startup | nindent 2 }}
readinessProbe:
  {{- include "winnow.probe" .Values.probes.readiness | nindent 2 }}
livenessProbe:
  {{- include "winnow.probe" .Values.probes.liveness | nindent 2 }}
lifecycle:
  preStop:
    exec:
      command: ["sleep", {{ .Values.shutdown.preStopSeconds | int | toString | quote }}]
{{- end -}}

{{- define "winnow.probe" -}}
httpGet:
  path: {{ .path | quote }}
  port: http
{{- range $key, $value := omit . "path" }}
{{ $key }}: {{ int $value }}
{{- end }}
{{- end -}}

{{/* Each pod of a replica gets an equal share of its GPUs. */}}
{{- define "winnow.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.enabled -}}
{{- $num := div (int .Values.parallel.tensor) (.Values.multiNode.enabled | ternary (int .Values.multiNode.size) 1) -}}
{{- range list "limits" "requests" -}}
{{- $_ := set $resources . (set (get $resources . | default dict) $.Values.gpu.resourceName (toString $num)) -}}
{{- end -}}
{{- end -}}
{{- with $resources }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* The root file system is read-only; these folders are not. */}}
{{- define "winnow.volumeMounts" -}}
- name: shm
  mountPath: /dev/shm
- name: tmp
  mountPath: /tmp
- name: home
  mountPath: /home/vllm
{{- if not (include "winnow.isBundled" .) }}
- name: cache
  mountPath: /cache
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "winnow.volumes" -}}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.shm.sizeLimit | quote }}
- name: tmp
  emptyDir: {}
- name: home
  emptyDir: {}
{{- if include "winnow.cacheClaim" . }}
- name: cache
  persistentVolumeClaim:
    claimName: {{ include "winnow.cacheClaim" . | quote }}
{{- else if not (include "winnow.isBundled" .) }}
- name: cache
  emptyDir:
    {{- if eq .Values.cache.type "emptyDir" }}
    sizeLimit: {{ .Values.cache.size | quote }}
    {{- else }} {}
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
