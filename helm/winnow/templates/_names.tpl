{{/* Name of the application, as it stands in labels. */}}
{{- define "winnow.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
Name of the objects. It fits a Service (lower case, no dots, a letter first) with up to 15 characters behind it;
what is too long ends with a hash of the whole, so that two long names stay two.
*/}}
{{- define "winnow.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- $full = .Values.fullnameOverride | default $full | lower | replace "." "-" -}}
{{- if not (regexMatch "^[a-z]" $full) -}}
{{- $full = printf "w-%s" $full -}}
{{- end -}}
{{- if gt (len $full) 48 -}}
{{- $full = printf "%s-%s" (trunc 39 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{/* What finds this release's pods; never changes while it lives. */}}
{{- define "winnow.selectorLabels" -}}
app.kubernetes.io/name: {{ include "winnow.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Selector of the pods that answer requests. */}}
{{- define "winnow.serverSelectorLabels" -}}
{{ include "winnow.selectorLabels" . }}
app.kubernetes.io/component: "server"
{{- end -}}

{{/* Selector of the pods that serve: the servers, and the workers of several nodes. Not the pods of `helm test`. */}}
{{- define "winnow.ownPods" -}}
matchLabels:
  {{- include "winnow.selectorLabels" . | nindent 2 }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [server, worker]
{{- end -}}

{{/* Labels of every object. */}}
{{- define "winnow.labels" -}}
{{ include "winnow.serverSelectorLabels" . }}
{{ include "winnow.versionLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{/* What pods carry too; not the chart's version, or every new chart would replace them. */}}
{{- define "winnow.versionLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* Image of the server. */}}
{{- define "winnow.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default (printf "%s%s" .Chart.AppVersion (.Values.gpu.enabled | ternary "" "-cpu"))) -}}
{{- end -}}
{{- end -}}

{{- define "winnow.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "winnow.fullname" .) "default") -}}
{{- end -}}

{{/* Name that requests ask for, which is also the label model_name of every metric. */}}
{{- define "winnow.servedName" -}}
{{- .Values.model.servedName | default .Values.model.name -}}
{{- end -}}

{{/* Whether the model lies in the image: "true" or nothing. */}}
{{- define "winnow.isBundled" -}}
{{- if has .Values.model.name (list "demo" "demo-sparse") }}true{{ end -}}
{{- end -}}

{{/* Name of the Secret with the API key, or nothing. */}}
{{- define "winnow.apiKeySecret" -}}
{{- with .Values.auth.apiKey -}}
{{- .existingSecret | default (ternary (printf "%s-api-key" (include "winnow.fullname" $)) "" (ne .value "")) -}}
{{- end -}}
{{- end -}}

{{/* Whether requests need a key, the chart's or those of a file or variable: "true" or nothing. */}}
{{- define "winnow.asksForKeys" -}}
{{- $sources := list (include "winnow.apiKeySecret" .) -}}
{{- range .Values.extraArgs }}{{ if hasPrefix "--api-keys-file" (replace "_" "-" .) }}{{ $sources = append $sources . }}{{ end }}{{ end -}}
{{- range .Values.extraEnv }}{{ if eq .name "WINNOW_API_KEYS" }}{{ $sources = append $sources .name }}{{ end }}{{ end -}}
{{- if compact $sources }}true{{ end -}}
{{- end -}}

{{/* Name of the Secret with the hub's token, or nothing. */}}
{{- define "winnow.tokenSecret" -}}
{{- with .Values.huggingface.token -}}
{{- .existingSecret | default (ternary (printf "%s-hub-token" (include "winnow.fullname" $)) "" (ne .value "")) -}}
{{- end -}}
{{- end -}}

{{/* Name of the claim that holds downloaded models, or nothing. */}}
{{- define "winnow.cacheClaim" -}}
{{- if include "winnow.isBundled" . -}}
{{- else if eq .Values.cache.type "existingClaim" -}}
{{- .Values.cache.existingClaim -}}
{{- else if eq .Values.cache.type "persistentVolumeClaim" -}}
{{- printf "%s-cache" (include "winnow.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* apiVersion, kind and name of what runs the pods, for what scales it. */}}
{{- define "winnow.scaleTarget" -}}
{{- if .Values.multiNode.enabled -}}
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
{{- else -}}
apiVersion: apps/v1
kind: Deployment
{{- end }}
name: {{ include "winnow.fullname" . | quote }}
{{- end -}}
